"""Checks of zips before they are uploaded: the first thing that the server of a benchmark would refuse."""
