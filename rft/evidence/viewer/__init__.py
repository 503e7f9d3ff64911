"""One HTML file that shows runs: curves, results, and their completions with grades and reasons."""
