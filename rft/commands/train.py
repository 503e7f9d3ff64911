"""`rft train`: checks, brings what is needed, opens the run folder, and trains."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.text import Text

from rft.cluster import ray_ahead_for, refuse_early
from rft.config import RunConfig
from rft.run.folder import open_recorder
from rft.run.inputs import read_inputs, render_prompts
from rft.run.parts import open_parts
from rft.run.terminal import Terminal
from rft.run.training import Training
from rft.run_folder.checkpoint import last_checkpoint
from rft.run_folder.copies import State, fetch_run
from rft.run_folder.results import nothing_left_to_do
from rft.storage import Place
from rft.terminal.progress import counted


def run_training(run: RunConfig, *, command: Sequence[str], console: Console) -> int:
    """Train from a checked configuration, on a Ray of the run's own.

    Args:
        run: The configuration.
        command: What was typed, for the manifest.
        console: Where progress and the final report go.

    Returns:
        The exit code: 0, or 130 or 143 when the run was interrupted.

    Raises:
        RftError: With what went wrong and what to do.
    """
    is_here = run.resume == run.output_dir
    checkpoint, last_step = last_checkpoint(Path(run.output_dir)) if is_here else (None, 0)
    if is_here and run.storage is None and (said := nothing_left_to_do(run, last_step)):
        console.print(Text(said), soft_wrap=True)
        return 0
    refuse_early(run)
    inputs = read_inputs(run, needs_training_tasks=True, output=None if run.resume else Path(run.output_dir))
    with ray_ahead_for(run):
        with counted(console, "checking prompts") as tell:
            prepared = render_prompts(inputs, tell)
        fetched: dict[str, State] = {}
        if run.resume and not is_here:
            console.print(Text(f"bringing the run from {run.resume} to {run.output_dir}"), soft_wrap=True)
            fetched = fetch_run(Place(run.resume), Path(run.output_dir), deadline_s=run.storage_timeout_s)
            checkpoint, last_step = last_checkpoint(Path(run.output_dir))
        training = Training(
            run=run,
            prepared=prepared,
            parts=partial(open_parts, run, prepared, checkpoint=checkpoint),
            recorder=open_recorder(run, prepared, command, last_step if checkpoint else None),
            sinks=[Terminal(console, Path(run.output_dir))],
            last_step=last_step,
            fetched=fetched,
        )
        return asyncio.run(training.train())
