"""What a person sees of a run, and the keys with which it is stopped."""
