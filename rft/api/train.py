"""`rft.train`: runs a training from Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
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
from rft.config.epochs import with_steps
from rft.config.overrides import Overrides, to_words
from rft.run.base_models.merged_start import with_merged_start
from rft.run.base_models.quantized_base import with_quantized_base
from rft.run.inputs.prepare import read_inputs, render_prompts
from rft.run.open_folder import Start, open_recorder, start_of
from rft.run.reporting.terminal import Terminal
from rft.run_folder.results import nothing_left_to_do
from rft.run_folder.run_lock import RunLock
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
        The run, and the exit code: 0, or one of `rft.terminal.interrupt` when a signal or a notice stopped the run.

    Raises:
        RftError: The run failed; the message gives reason and remedy.
    """
    folder = Path(run.output_dir)
    warnings: list[str] = []

    def say(text: str) -> None:
        console.print(Text(text), soft_wrap=True)

    is_first = _comes_before_its_inputs(run)
    with ExitStack() as held:
        lock = RunLock(folder, key="resume" if run.resume else "output_dir")
        start = Start()
        if is_first:
            held.enter_context(lock)
            start = start_of(run, say=say, warn=warnings.append)
            if _is_done(run, start, say):
                return Run(folder), 0
        require_packages_here(run)
        refuse_early(run)
        inputs = read_inputs(run, needs_training_tasks=True, output=None if run.resume else folder)
        from rft.run.parts import open_parts  # these two import Ray: slowly, and the core does not install it
        from rft.run.training import Training

        inputs = with_quantized_base(run, with_merged_start(run, inputs, say), say)
        with ray_ahead_for(run):
            with counted(console, "checking prompts") as tell:
                prepared = render_prompts(inputs, tell)
            run = with_steps(run, len(prepared.tasks.train))
            if _is_done(run, start, say):  # the number of steps of an epoch was not known before
                return Run(folder), 0
            if not is_first:
                held.enter_context(lock)
                start = start_of(run, say=say, warn=warnings.append)
            training = Training(
                run=run,
                prepared=prepared,
                parts=partial(open_parts, run, prepared, checkpoint=start.checkpoint),
                recorder=open_recorder(run, prepared, command, start.last_step),
                sinks=[Terminal(console, folder)],
                last_step=start.last_step or 0,
                fetched=start.fetched,
                warnings=[*warnings, *filter(None, [lock.warning])],
            )
            exit_code = run_to_end(training.train())
    return Run(folder), exit_code


def _comes_before_its_inputs(run: RunConfig) -> bool:
    """Whether the folder of a run has what its inputs are made of: passages that it found, or a base model of its own.

    A folder that the run continues where it is, is locked first as well.
    """
    has_passages = run.resume is not None and run.retrieval.is_on
    is_here = run.resume == run.output_dir
    return is_here or has_passages or run.start_mode == "merge" or run.learner.base is not None


def _is_done(run: RunConfig, start: Start, say: Callable[[str], None]) -> bool:
    """Whether the run has nothing left to do; say so."""
    notice = nothing_left_to_do(run, start.last_step) if start.last_step and run.storage is None else ""
    if notice:
        say(notice)
    return bool(notice)
