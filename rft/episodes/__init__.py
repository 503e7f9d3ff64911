"""The room of environments, tools and episodes of several turns; empty, because every rollout has one turn.

An episode implements `rft.batches.Sampler` on top of `rft.sampling.fleet`: section 1 of docs/design.md.
"""
