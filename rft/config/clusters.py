"""Keys of `cluster`: the Ray cluster of a run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rft.config.fields import AbsoluteFolder, PositiveSeconds, Section


class ClusterConfig(Section):
    """Keys that all clusters share."""

    start_timeout_s: PositiveSeconds = 120.0
    """Seconds allowed for starting or joining Ray, and for a node's first answer."""
    placement_timeout_s: PositiveSeconds = 120.0
    """Seconds allowed until the cluster has room for every process; meanwhile nodes may join and other runs may end."""


class LocalClusterConfig(ClusterConfig):
    """Ray on this machine: starts with the run, stops at its end, and listens only on loopback."""

    kind: Literal["local"] = "local"


class AttachClusterConfig(ClusterConfig):
    """A running Ray cluster, which continues after the run."""

    kind: Literal["attach"] = "attach"
    address: str = "auto"
    """`<host>:<port>` of the head node; `auto` takes RAY_ADDRESS, or the cluster to which this machine belongs."""
    ship_code: bool = True
    """Whether the nodes receive the driver's copy of rft; otherwise each needs the same version installed."""
    node_folder: AbsoluteFolder | None = None
    """Absolute folder on every node for the base model and the learner's files; null takes rft-<user id> in the
    temporary folder."""
    transfer_timeout_s: PositiveSeconds = 600.0
    """Seconds allowed for each part of a file transfer, and for a node to check the base model."""


Cluster = Annotated[LocalClusterConfig | AttachClusterConfig, Field(discriminator="kind")]
