"""Environments of other systems as environments of rft.

`styles` tells a system by the package of a base class, or by `environment.style`. `games` plays environments with a
`reset` and a `step`, `openenv` clients of OpenEnv, `trl` the classes of TRL's `environment_factory`, and `verifiers`
environments of verifiers 0.1.
"""
