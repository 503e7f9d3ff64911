"""The embedders, from texts to vectors: one file for each kind."""
