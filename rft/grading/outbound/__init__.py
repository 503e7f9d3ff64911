"""Graders for other systems: as a service, and as a reward function for TRL."""
