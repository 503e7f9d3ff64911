"""The terminal: progress display, Ctrl-C and final report."""
