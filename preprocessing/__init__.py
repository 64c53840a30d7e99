"""Official datasets to WebDataset shards."""
