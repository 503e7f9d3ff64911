"""Checks of task files: look-alikes, leakage between splits, labels, personal data."""
