"""Transfers files between driver and nodes through Ray's object store, without a shared file system."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from rft.cluster.node_agent import READ_BYTES
from rft.errors import ClusterError
from rft.waiting import blocking, wait_for


async def send(keepers: Mapping[str, Any], files: Mapping[str, Path], *, deadline_s: float) -> None:
    """Send local files to nodes in parts. Each part travels once to each node.

    Args:
        keepers: Agents of the nodes, by target folder (below the agent's own).
        files: Local files by their path in that folder.
        deadline_s: Seconds for each part.

    Raises:
        ClusterError: A node refused a file.
        WaitTimeout: A part did not arrive in time.
    """
    for path, file in files.items():
        with file.open("rb") as opened:
            is_first = True
            while (data := opened.read(READ_BYTES)) or is_first:
                part = await blocking(partial(ray.put, data), what="the object store", deadline_s=deadline_s)
                await ask(
                    [keeper.write.remote(f"{to}/{path}", part, is_first=is_first) for to, keeper in keepers.items()],
                    what=f"{file.name} to reach {len(keepers)} node(s)",
                    deadline_s=deadline_s,
                )
                is_first = False


async def fetch(keeper: Any, path: str, target: Path, *, deadline_s: float) -> None:
    """Copy a file from a node, completely or not at all.

    Args:
        keeper: Agent of the node.
        path: Path below the agent's folder.
        target: Local path.
        deadline_s: Seconds for each part.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(target.name + ".part")
    with temporary.open("wb") as opened:
        while True:
            what = f"{target.name} from the learner's node"
            [data] = await ask([keeper.read.remote(path, opened.tell())], what=what, deadline_s=deadline_s)
            opened.write(data)
            if len(data) < READ_BYTES:
                break
    temporary.replace(target)


async def ask(references: Sequence[Any], *, what: str, deadline_s: float) -> list[Any]:
    """Await replies of nodes.

    Raises:
        ClusterError: A node failed.
        WaitTimeout: The replies did not arrive in time.
    """
    try:
        return list(await wait_for(asyncio.gather(*references), what=what, deadline_s=deadline_s))
    except RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, ClusterError):
            raise cause from None
        raise ClusterError(
            f"a node failed during a request for {what}: {str(error).strip().splitlines()[-1]}"
        ) from error
