"""Files between the driver and the nodes, through Ray's object store: no shared file system is needed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from rft.cluster.node_agent import READ_BYTES
from rft.errors import ClusterError
from rft.waiting import wait_for


async def send(keepers: Mapping[str, Any], files: Mapping[str, Path], *, deadline_s: float) -> None:
    """Send files of this machine to nodes, part by part; a part travels once to each node.

    Args:
        keepers: Of the nodes, by the folder (below the keeper's own) that takes the files there.
        files: By their path in that folder.
        deadline_s: For each part, seconds.

    Raises:
        ClusterError: A node could not take it.
        WaitTimeout: A part did not arrive in time.
    """
    for path, file in files.items():
        with file.open("rb") as opened:
            is_first = True
            while (data := opened.read(READ_BYTES)) or is_first:
                part = ray.put(data)
                await ask(
                    [keeper.write.remote(f"{to}/{path}", part, is_first=is_first) for to, keeper in keepers.items()],
                    what=f"{file.name} to reach {len(keepers)} node(s)",
                    deadline_s=deadline_s,
                )
                is_first = False


async def fetch(keeper: Any, path: str, target: Path, *, deadline_s: float) -> None:
    """Bring a file of a node here, whole or not at all.

    Args:
        keeper: Of the node.
        path: Below the keeper's folder.
        target: Where it is written.
        deadline_s: For each part, seconds.
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
    """Await answers of nodes.

    Raises:
        ClusterError: A node failed.
        WaitTimeout: They did not come in time.
    """
    try:
        return list(await wait_for(asyncio.gather(*references), what=what, deadline_s=deadline_s))
    except RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, ClusterError):
            raise cause from None
        raise ClusterError(
            f"a node failed while it was asked for {what}: {str(error).strip().splitlines()[-1]}"
        ) from error
