"""Ray on this machine or on an existing cluster, and the placement of a run's processes.

Read `workplace` first: it connects, reserves a placement group, checks every node, and sends the base model to nodes
that lack it.
"""

from __future__ import annotations

from rft.cluster.free_memory import device_here
from rft.cluster.nodes import Node, num_gpus_here, this_machine
from rft.cluster.placement import nodes_now
from rft.cluster.session import ray_session, starts_ray
from rft.cluster.shares import Shares, share_out
from rft.cluster.workplace import Workplace, idle_gpus_here, ray_ahead_for, refuse_early, shares_here, workplace

__all__ = [
    "Node",
    "Shares",
    "Workplace",
    "device_here",
    "idle_gpus_here",
    "nodes_now",
    "num_gpus_here",
    "ray_ahead_for",
    "ray_session",
    "refuse_early",
    "share_out",
    "shares_here",
    "starts_ray",
    "this_machine",
    "workplace",
]
