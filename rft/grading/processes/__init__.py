"""Graders in killable worker processes."""
