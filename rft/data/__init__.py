"""Task files in: sources of rows, rows to tasks, splits and their hygiene, the order of tasks, rendered prompts."""
