"""Shared parts of the benchmarks: arms in fresh processes, generated models, gates that fail a comparison, tables."""
