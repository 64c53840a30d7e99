"""Targets, matching, losses and the training loop."""
