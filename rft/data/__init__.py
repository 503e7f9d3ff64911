"""Tasks: sources of rows, checks, splits, the order of tasks, and rendered prompts."""
