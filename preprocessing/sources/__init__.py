"""One reader per official on-disk layout."""
