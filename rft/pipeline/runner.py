"""`rft pipeline`: runs stages in turn. Each is an ordinary run, so a pipeline that is killed continues like its run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.text import Text

from rft.api.train import train_run
from rft.cluster.versions import require_packages_here
from rft.config import RunConfig
from rft.config.commands import load_training
from rft.config.pipeline import Pipeline, read_pipeline
from rft.config.recorded_words import key_of, resumed_words
from rft.errors import ConfigError, RftError
from rft.pipeline.record import MAY_CHANGE_ON_RESUME, RECORD, begin, print_table, record, recorded_words
from rft.pipeline.stages import PlacedStage, check_stages, placed
from rft.redaction import hide_in_words
from rft.run.check import plan_training
from rft.run.plan import Plan
from rft.run_folder.run_lock import RunLock

Train = Callable[[RunConfig, Sequence[str]], int]
"""Trains with a configuration, given the command line for the manifest; returns the exit code."""


def run_pipeline(words: Sequence[str], *, console: Console, train: Train | None = None) -> int:
    """Run the stages of a pipeline that are not done.

    Args:
        words: The arguments of `rft pipeline`.
        console: Output of progress and table.
        train: Trains a stage; by default on a Ray of its own, like `rft train`.

    Returns:
        The exit code: 0, or that of the stage that was interrupted.

    Raises:
        UsageError: Contains the problems of all stages; none was started.
        RftError: A stage failed. The notes of the error say how to continue.
    """
    pipeline = _resumed(words) or read_pipeline(words)
    folder = _folder(pipeline)
    stages = placed(pipeline.stages, folder)
    plans: list[Plan] = []

    def check(run: RunConfig) -> None:
        if not pipeline.config.dry_run:
            require_packages_here(run)
        plans.append(plan_training(run, console))

    check_stages(stages, check)
    if pipeline.config.dry_run:
        _print_plans(console, stages, plans)
        return 0
    is_new = pipeline.config.resume is None
    recorded = hide_in_words(words, {}) if is_new else recorded_words(folder)
    with RunLock(folder, key="output_dir" if is_new else "resume"):
        if is_new:
            begin(folder, recorded, stages)
        return _run(stages, folder, recorded, console, train or partial(_train, console=console))


def _run(stages: Sequence[PlacedStage], folder: Path, words: Sequence[str], console: Console, train: Train) -> int:
    """Run the stages in turn; return the exit code."""
    status, code = "failed", 0
    try:
        for stage in stages:
            place = f"stage {stage.stage.number} of {len(stages)}, {stage.stage.name}"
            if stage.is_done():
                _say(console, f"{place}: done before, in {stage.folder}")
                continue
            _say(console, f"{place}: {stage.folder}", style="bold")
            code = train(stage.configuration(), ["rft", "train", *stage.command])
            if code or not stage.is_done():
                break
            record(folder, words, stages, status="unfinished")
        status = "finished" if all(stage.is_done() for stage in stages) else "interrupted"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    except RftError as error:
        error.add_note(f"to continue the pipeline: rft pipeline resume={folder}")
        raise
    finally:
        content = record(folder, words, stages, status=status)
    print_table(console, content)
    if status == "interrupted":
        _say(console, f"\nto continue: rft pipeline resume={folder}")
    return code


def _train(run: RunConfig, command: Sequence[str], *, console: Console) -> int:
    return train_run(run, command=command, console=console)[1]


def _resumed(words: Sequence[str]) -> Pipeline | None:
    """Return the pipeline to resume; None without `resume`.

    Raises:
        ConfigError: Another setting would change.
        OutputError: The folder contains no pipeline.
    """
    given = {key_of(word): word.partition("=")[2].strip("'\"") for word in words}
    if (resume := given.get("resume", "null")) in ("", "null"):
        return None
    before = recorded_words(Path(resume))
    return read_pipeline(resumed_words(before, words, may_change=MAY_CHANGE_ON_RESUME, file=RECORD))


def _folder(pipeline: Pipeline) -> Path:
    """Return the pipeline's folder.

    Raises:
        ConfigError: `or_resume` without a folder, or the first stage is wrong.
    """
    config = pipeline.config
    given = config.resume or config.output_dir
    if given is not None:
        return Path(given).absolute()
    if config.or_resume:
        problem = "or_resume=true: give output_dir=<folder>, too; the default folder is a new one at every start"
        raise ConfigError("configuration", [problem])
    name = load_training(pipeline.stages[0].words).name
    return Path("runs", name, f"pipeline_{datetime.now():%Y-%m-%d_%H-%M-%S}").absolute()


def _print_plans(console: Console, stages: Sequence[PlacedStage], plans: Sequence[Plan]) -> None:
    """Print the plan of each stage that is not done."""
    waiting = iter(plans)
    for stage in stages:
        _say(console, f"stage {stage.stage.number}, {stage.stage.name}:", style="bold")
        _say(console, f"  done, in {stage.folder}" if stage.is_done() else f"{next(waiting)}\n")


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style=style), soft_wrap=True)
