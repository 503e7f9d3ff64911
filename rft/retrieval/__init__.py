"""Retrieval: passages for a task, from a store, put into its prompt before anything is sampled.

`passages.py` has the records, `stores/` and `embedders/` one file for each kind. The settings of a kind are a class in
`rft.config.retrieval` or `rft.config.embedders`, and name the class here that does the work. No torch unless an
embedder needs it, and then only in the call that embeds.
"""
