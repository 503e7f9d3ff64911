"""Metrics of a step, confidence intervals, and signs of a missing training signal or an exploited grader."""
