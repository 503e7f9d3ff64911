"""`rft.train`: runs a training from Python."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.text import Text

from rft.api.calls import configuration, make_console, pass_on_interrupt
from rft.api.run import Run
from rft.cluster import ray_ahead_for, refuse_early
from rft.cluster.versions import require_packages_here
from rft.config import RunConfig
from rft.config.commands import load_training
from rft.config.overrides import Overrides, to_words
from rft.run.folder import open_recorder
from rft.run.inputs import read_inputs, render_prompts
from rft.run.terminal import Terminal
from rft.run_folder.checkpoint import last_checkpoint
from rft.run_folder.copies import State, fetch_run
from rft.run_folder.results import nothing_left_to_do
from rft.storage import Place
from rft.terminal.event_loop import run_to_end
from rft.terminal.progress import counted


def train(*overrides: Overrides, quiet: bool = False) -> Run:
    """Train an adapter on tasks that graders score, as `rft train` does.

    Args:
        overrides: As on the command line: `"experiment=quickstart"`, `"resume=runs/..."`; or mappings, such as
            `{"loop.steps": 20}` or `{"loop": {"steps": 20}}`. Later ones win.
        quiet: Print nothing; otherwise progress and the final report are shown.

    Returns:
        The run, whose folder contains the results.

    Raises:
        ConfigError: With every problem of the configuration.
        InstallError: A package is missing that an extra of rft installs.
        UsageError: With everything that is wrong with the model, the tasks, the graders and the run folder.
        RftError: The run failed. Its notes say how to resume it, and `rft.open_run` opens what it has done.
        KeyboardInterrupt: Ctrl-C interrupted the run, after the step under way was finished and saved.

    Example:
        run = rft.train("experiment=quickstart", "loop.steps=20")
        run.summary["eval"]["difference"]
    """
    run, exit_code = train_run(
        configuration(load_training, overrides),
        command=["rft.train", *to_words(overrides)],
        console=make_console(quiet=quiet),
    )
    pass_on_interrupt(exit_code)
    return run


def train_run(run: RunConfig, *, command: Sequence[str], console: Console) -> tuple[Run, int]:
    """Train with a checked configuration, on the run's own Ray.

    Args:
        run: The configuration.
        command: The command line, for the manifest.
        console: Shows the progress and the final report.

    Returns:
        The run, and the exit code: 0, or 130 or 143 when a signal interrupted the run.

    Raises:
        RftError: The run failed; the message gives reason and remedy.
    """
    is_here = run.resume == run.output_dir
    checkpoint, last_step = last_checkpoint(Path(run.output_dir)) if is_here else (None, 0)
    if is_here and run.storage is None and (notice := nothing_left_to_do(run, last_step)):
        console.print(Text(notice), soft_wrap=True)
        return Run(run.output_dir), 0
    require_packages_here(run)
    from rft.run.parts import open_parts  # these two import Ray, which the core does not install
    from rft.run.training import Training

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
        exit_code = run_to_end(training.train())
    return Run(run.output_dir), exit_code
