"""Graders in worker processes, which can be killed."""
