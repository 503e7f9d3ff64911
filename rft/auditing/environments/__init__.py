"""The audit of an environment: it plays episodes with scripted policies, before training and without a model.

`policies` has the policies, `episodes` plays episodes in the processes that a run would use, `processes` looks at what
these processes hold, and `probes` compares.
"""
