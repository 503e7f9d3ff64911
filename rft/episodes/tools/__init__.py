"""Tools as an environment: the policy calls functions, and hears their results.

`tool` defines a tool and a source of tools. `sources` makes tools of functions and classes, whose schemas come from
`schemas`. `loading` reads the configuration. `play` is the coroutine of the environment, which runs in a worker.
"""
