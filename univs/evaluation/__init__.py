"""Metrics: partial scores per video, merged exactly."""
