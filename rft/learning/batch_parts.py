"""Carries batches to the learner's actors as arguments of calls, in parts that Ray sends without its object store.

A batch in the object store would belong to this process. When the raylet ends, Ray tries to recover the objects of a
process from the store, which is gone with the raylet, and then ends the process without a message.

Only the driver of the run sends batches. Packing them with cloudpickle is what Ray does with every argument of a call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ray
from ray import cloudpickle

PART_BYTES = 64 * 1024
"""Size of a part. Ray puts an argument of more than 100 KiB (`max_direct_call_object_size`) into its object store."""
MAX_BYTES = 8 * 1024**2
"""Largest batch that is sent in parts. Ray puts all arguments after the first 10 MiB of a call
(`task_rpc_inlined_bytes_limit`) into its object store."""


def to_parts(batch: Sequence[Any]) -> list[Any]:
    """Return the arguments that carry a batch: its parts, or one reference to the object store for a larger batch."""
    packed = cloudpickle.dumps(list(batch))
    if len(packed) > MAX_BYTES:
        return [ray.put(packed)]
    return [packed[start : start + PART_BYTES] for start in range(0, len(packed), PART_BYTES)]


def from_parts(parts: Sequence[bytes]) -> list[Any]:
    """Return the batch that `to_parts` has packed."""
    batch: list[Any] = cloudpickle.loads(b"".join(parts))
    return batch
