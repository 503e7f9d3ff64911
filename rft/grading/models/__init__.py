"""Graders that load a model themselves instead of calling an endpoint."""
