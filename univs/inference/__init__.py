"""Streaming video inference, one file per task."""
