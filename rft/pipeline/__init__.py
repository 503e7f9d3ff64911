"""Pipelines: runs in turn, each of which starts from the result of the one before."""
