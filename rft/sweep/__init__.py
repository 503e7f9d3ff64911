"""Sweeps: trials of one configuration with different settings, side by side, and their comparison."""
