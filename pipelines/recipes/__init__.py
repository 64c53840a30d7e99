"""Functions returning a complete configuration."""
