"""Graders whose model runs in this system, not behind an endpoint."""
