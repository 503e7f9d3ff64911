"""What a run leaves on disk: records, checkpoints, provenance, the result and its pictures."""
