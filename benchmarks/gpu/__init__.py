"""Checks of rft on an NVIDIA GPU, in parts: see `gpu_check.py`."""
