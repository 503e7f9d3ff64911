"""`rft.run_pipeline`: trains in stages, each from the result of the one before."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from rft.api.calls import make_console, pass_on_interrupt, refuse_dry_run
from rft.api.run import Run
from rft.api.train import train_run
from rft.config import RunConfig
from rft.config.overrides import Overrides, to_words
from rft.errors import OutputError
from rft.pipeline.record import RECORD
from rft.pipeline.runner import read_words
from rft.pipeline.runner import run_pipeline as run_stages_of
from rft.run_folder.recorder import CONFIG


class PipelineRun:
    """A pipeline, finished or not: a view of its folder, which every attribute reads when it is used.

    Args:
        folder: The folder of the pipeline.

    Raises:
        OutputError: The folder contains no pipeline.

    Example:
        pipeline = rft.PipelineRun("runs/sft_then_grpo/pipeline_2026-11-28_10-15-00")
        pipeline.stages["grpo"].adapter
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        """The pipeline's folder."""
        if not os.path.isfile(self.folder / RECORD):  # unlike Path.is_file, it does not raise for too long names
            raise OutputError("pipeline", [f"{self.folder} contains no pipeline (no {RECORD})"])

    @property
    def summary(self) -> dict[str, Any]:
        """The content of pipeline.json.

        `stages` has the results of each stage, and `difference` the last result minus the first start.
        """
        summary: dict[str, Any] = json.loads((self.folder / RECORD).read_text(encoding="ascii"))
        return summary

    @property
    def status(self) -> str:
        """`finished`, `interrupted`, `failed`, or `unfinished` (the pipeline continues or was killed)."""
        return str(self.summary["status"])

    @property
    def stages(self) -> dict[str, Run]:
        """The runs of the stages that have begun, by name, in order."""
        folders = {entry["name"]: self.folder / entry["folder"] for entry in self.summary["stages"]}
        return {name: Run(folder) for name, folder in folders.items() if (folder / CONFIG).is_file()}

    def __repr__(self) -> str:
        summary = self.summary
        stages = ", ".join(f"{entry['name']} {entry['status']}" for entry in summary["stages"])
        return f"<rft.PipelineRun {self.folder}: {summary['status']}; {stages}>"


def run_pipeline(*overrides: Overrides, quiet: bool = False) -> PipelineRun:
    """Train in stages, as `rft pipeline` does. Finished stages are skipped, and an interrupted one continues.

    Args:
        overrides: As on the command line: `"experiment=sft_then_grpo"`, `"resume=runs/..."`; or mappings, such as
            `{"stages": {"sft": {"learner": "sft"}, "grpo": {"loop.steps": 20}}}`.
        quiet: Print nothing; otherwise the progress of each stage and the table of results are shown.

    Returns:
        The pipeline, whose folder contains the runs of the stages.

    Raises:
        ConfigError: With the problems of all stages. None was started.
        InstallError: A package is missing that an extra of rft installs.
        RftError: A stage failed. The notes of the error say how to continue.
        KeyboardInterrupt: Ctrl-C interrupted a stage, after the step under way was finished and saved.

    Example:
        pipeline = rft.run_pipeline("experiment=sft_then_grpo", "stages.grpo.loop.steps=20")
        pipeline.summary["difference"], pipeline.stages["grpo"].adapter
    """
    words = to_words(overrides)
    refuse_dry_run(is_dry_run=read_words(words).config.dry_run)
    folder, exit_code = train_pipeline(words, console=make_console(quiet=quiet))
    pass_on_interrupt(exit_code)
    return PipelineRun(folder)


def train_pipeline(words: Sequence[str], *, console: Console) -> tuple[Path, int]:
    """Run the stages of a pipeline, each on a Ray of its own; return its folder and the exit code.

    Args:
        words: The arguments of `rft pipeline`.
        console: Shows the progress and the table of results.

    Raises:
        RftError: As `run_pipeline`.
    """
    return run_stages_of(words, console=console, train=partial(train_stage, console=console))


def train_stage(run: RunConfig, command: Sequence[str], *, console: Console) -> int:
    """Train a stage like `rft train`; return the exit code."""
    return train_run(run, command=command, console=console)[1]
