"""What the benchmarks share: arms in fresh processes, models made from numbers, gates that fail a run, and tables."""
