"""What a run will need: places, memory and disk, before anything starts."""
