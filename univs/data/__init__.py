"""Releases to training batches."""
