"""`rft pipeline`: runs stages in turn. Each is an ordinary run, so a pipeline that is killed continues like its run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.text import Text

from rft.cluster.versions import require_packages_here
from rft.config import RunConfig
from rft.config.commands import load_training
from rft.config.pipeline_arguments import Pipeline, read_pipeline
from rft.config.recorded_words import key_of, resumed_words
from rft.errors import ConfigError, RftError, UsageError
from rft.pipeline.record import MAY_CHANGE_ON_RESUME, RECORD, begin, print_results, record, recorded_words
from rft.pipeline.stages import PlacedStage, check_stages, placed
from rft.redaction import hide_in_words
from rft.run.check import plan_training
from rft.run.forecast.plan import Plan
from rft.run_folder.run_lock import RunLock

Train = Callable[[RunConfig, Sequence[str]], int]
"""Trains with a configuration, given the command line for the manifest; returns the exit code."""


def run_pipeline(words: Sequence[str], *, console: Console, train: Train) -> tuple[Path, int]:
    """Run the stages of a pipeline that are not done.

    Args:
        words: The arguments of `rft pipeline`.
        console: Output of progress and table.
        train: Trains a stage.

    Returns:
        The pipeline's folder, and the exit code: 0, or that of the stage that was interrupted.

    Raises:
        UsageError: Contains the problems of all stages; none was started.
        RftError: A stage failed. The notes of the error say how to continue.
    """
    pipeline = read_words(words)
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
        return folder, 0
    is_new = pipeline.config.resume is None
    recorded = hide_in_words(words, {}) if is_new else recorded_words(folder)
    with RunLock(folder, key="output_dir" if is_new else "resume"):
        if is_new:
            begin(folder, recorded, stages)
        return folder, _run(stages, folder, recorded, console, train)


def read_words(words: Sequence[str]) -> Pipeline:
    """Parse the arguments of `rft pipeline`; those of a resume repeat the recorded ones.

    Raises:
        ConfigError: The pipeline's own keys have problems, or another setting would change on resume.
        OutputError: The folder to resume contains no pipeline.
    """
    given = {key_of(word): word.partition("=")[2].strip("'\"") for word in words}
    if (resume := given.get("resume", "null")) in ("", "null"):
        return read_pipeline(words)
    before = recorded_words(Path(resume))
    return read_pipeline(resumed_words(before, words, may_change=MAY_CHANGE_ON_RESUME, file=RECORD))


def run_stages(
    stages: Sequence[PlacedStage],
    *,
    num_stages: int,
    console: Console,
    train: Train,
    ended: Callable[[], object] = lambda: None,
) -> int:
    """Run the stages that are not done, in turn, up to one that is interrupted.

    Args:
        stages: The stages.
        num_stages: Number of all stages, for the progress.
        console: Output of the progress.
        train: Trains a stage.
        ended: Called after each stage that is now done.

    Returns:
        The exit code: 0, or that of the stage that was interrupted.

    Raises:
        RftError: A stage failed.
    """
    for stage in stages:
        place = f"stage {stage.stage.number} of {num_stages}, {stage.stage.name}"
        if stage.is_done():
            _say(console, f"{place}: done before, in {stage.folder}")
            continue
        _say(console, f"{place}: {stage.folder}", style="bold")
        code = train(stage.configuration(), ["rft", "train", *stage.command])
        if code or not stage.is_done():
            return code
        ended()
    return 0


def _run(stages: Sequence[PlacedStage], folder: Path, words: Sequence[str], console: Console, train: Train) -> int:
    """Run the stages in turn, and record them; return the exit code."""
    status = "failed"

    def ended() -> None:
        record(folder, words, stages, status="unfinished")

    try:
        code = run_stages(stages, num_stages=len(stages), console=console, train=train, ended=ended)
        status = "finished" if all(stage.is_done() for stage in stages) else "interrupted"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    except RftError as error:
        error.add_note(f"to continue the pipeline: rft pipeline resume={folder}")
        raise
    finally:
        content = record(folder, words, stages, status=status)
    print_results(console, content)
    if status == "interrupted":
        _say(console, f"\nto continue: rft pipeline resume={folder}")
    return code


def _folder(pipeline: Pipeline) -> Path:
    """Return the pipeline's folder.

    Raises:
        ConfigError: `or_resume` without a folder.
    """
    config = pipeline.config
    given = config.resume or config.output_dir
    if given is not None:
        return Path(given).absolute()
    if config.or_resume:
        problem = "or_resume=true: give output_dir=<folder>, too; the default folder is a new one at every start"
        raise ConfigError("configuration", [problem])
    try:
        name = load_training(pipeline.stages[0].words).name
    except UsageError:  # the check of all stages reports it
        name = "run"
    return Path("runs", name, f"pipeline_{datetime.now():%Y-%m-%d_%H-%M-%S}").absolute()


def _print_plans(console: Console, stages: Sequence[PlacedStage], plans: Sequence[Plan]) -> None:
    """Print the plan of each stage that is not done."""
    waiting = iter(plans)
    for stage in stages:
        _say(console, f"stage {stage.stage.number}, {stage.stage.name}:", style="bold")
        _say(console, f"  done, in {stage.folder}" if stage.is_done() else f"{next(waiting)}\n")


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style=style), soft_wrap=True)
