"""What runs: entry scripts and recipes."""
