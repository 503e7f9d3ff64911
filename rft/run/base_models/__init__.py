"""The base model and the adapter that a run begins from, or makes."""
