"""Episodes: environments that talk with the policy over several turns.

`sampler` implements `rft.batches.Sampler` on top of the fleet, with one episode for each completion of a task.
`conversation` and `transcript` hold the tokens of an episode, which only grow. `workers` runs the environments in
processes that can be killed, on this machine (`local_process`) or through a `host` on another node. `contract` defines
an environment, `loading` imports one, `foreign` adapts those of other systems, and `tools` makes one of tools.
"""
