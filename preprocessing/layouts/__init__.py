"""One writer per official on-disk layout, for the miniature."""
