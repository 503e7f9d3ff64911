"""The files of a run: records, checkpoints, provenance, result and plots."""
