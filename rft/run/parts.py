"""What a run samples, grades and learns with: started together, and closed together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from rft.cluster import workplace
from rft.config import RunConfig
from rft.grading.panel import Panel
from rft.learning.remote import RemoteLearner
from rft.run import build
from rft.run.inputs import Prepared
from rft.sampling.fleet import Fleet
from rft.waiting import together


class Parts(NamedTuple):
    """What a run samples, grades and learns with."""

    fleet: Fleet
    panel: Panel
    learner: RemoteLearner


Say = Callable[[str], None]
"""Shows what is going on."""


@asynccontextmanager
async def parts_of_its_own(
    run: RunConfig, prepared: Prepared, checkpoint: Path | None, console: Console, say: Say
) -> AsyncIterator[Parts]:
    """Ray, the fleet, the panel and the learner of one run, started, and closed at the end."""
    panel = build.panel(run, prepared)
    try:
        say("starting Ray")
        async with workplace(
            run, model=prepared.model, fingerprint=prepared.base.fingerprint, console=console
        ) as place:
            say(f"starting {run.sampler.num_actors} sampler(s) and the learner")

            def warn(text: str) -> None:
                console.print(Text(f"warning: {text}"), soft_wrap=True)

            fleet = build.fleet(
                run, prepared, place, max_lora_rank=run.learner.lora.rank if run.learner.lora else None, warn=warn
            )
            learner = await build.learner(run, prepared, place, checkpoint)
            await together(fleet.start(), learner.start())
            try:
                yield Parts(fleet, panel, learner)
                say("closing")
                await learner.close()
            finally:
                await fleet.end_streams()
    finally:
        panel.close()
