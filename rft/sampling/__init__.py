"""Sampling: engines, the Ray actors that own them, and the fleet of actors that serves one policy."""
