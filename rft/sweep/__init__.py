"""Sweeps: trials of one configuration with other settings, side by side, and what is said of them at the end."""
