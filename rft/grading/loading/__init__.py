"""Loads a grader from its entry in the configuration: its target, its options and its call."""
