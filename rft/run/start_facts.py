"""Facts that are known once samplers and learner have started: the tolerance of proofs, and the size of caches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rft.events import Notice, Warned
from rft.run.recovery import RecoveringLearner
from rft.run_folder.recorder import read_manifest
from rft.sampling.engines import Engines
from rft.sampling.fleet import Fleet


async def hold_tolerance(fleet: Fleet, learner: RecoveringLearner, resumed: Path | None) -> dict[str, Any]:
    """Set the tolerance of proofs if it depends on the base models. A resumed run keeps the tolerance of its start.

    Args:
        fleet: The started samplers.
        learner: The started learner.
        resumed: Folder of a resumed run; None for a new run.

    Returns:
        The entry of the manifest; empty if the tolerance is fixed.

    Raises:
        SyncError: The base models of samplers and learner differ.
    """
    if not fleet.measures_tolerance:
        return {}
    held = read_manifest(resumed).get("proof") if resumed else None
    if held:
        fleet.hold(held["tolerance"])
    elif scores := await learner.base_canary_logprobs():
        fleet.measure_tolerance(scores)
    return {"proof": {"tolerance": fleet.tolerance}}


def cache_events(engines: Engines) -> list[Notice | Warned]:
    """Return the size of the key-value cache of each sampler on a GPU, which shows how much memory vLLM has found.

    Adds a warning if a block of the cache is not shorter than the canaries, which then never reuse one.
    """
    facts = {sampler.name: sampler.facts for sampler in engines.samplers if "num_cache_blocks" in sampler.facts}
    events: list[Notice | Warned] = []
    if engines.spec.place.on_gpu:
        for name, one in facts.items():
            num_blocks, size = one["num_cache_blocks"], one["block_size"]
            text = f"{name}: key-value cache for {num_blocks * size:,} tokens ({num_blocks:,} blocks of {size})"
            events.append(Notice(text=text))
    longest = max(map(len, engines.spec.canaries), default=0)
    for size in sorted({one["block_size"] for one in facts.values()}):
        if longest and size >= longest:
            events.append(
                Warned(
                    text=f"vLLM's prefix cache has blocks of {size} tokens, and the canaries have {longest}: no proof "
                    f"checks this cache; set sampler.engine.block_size={size}, which makes the canaries longer"
                )
            )
    return events
