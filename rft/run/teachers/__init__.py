"""The teachers of a run that distils."""
