"""What ships with rft, so that everything can be tried without a download: models, tasks, and worked examples."""
