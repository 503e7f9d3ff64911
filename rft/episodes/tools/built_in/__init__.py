"""Tools that come with rft: `calculator`, `python`, `sql` and `files`.

`source` makes them from the configuration. Code of the model runs in the sandbox of the graders (docs/sandbox.md),
which receives the model's code and what the tool works on, and never the task or its reference.
"""
