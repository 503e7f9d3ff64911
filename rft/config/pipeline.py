"""Parses the arguments of `rft pipeline`: its own keys, those of every stage, and those of one stage."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from hydra.core.override_parser.overrides_parser import OverridesParser

from rft.config.compose import load
from rft.config.overrides import to_words
from rft.config.pipeline_config import PipelineConfig
from rft.config.presets import SEARCHPATH, lists_stages, preset_names, searched_folders
from rft.config.recorded_words import key_of

OF_THE_PIPELINE = r"[+~]*(stages|stages\..*|output_dir|resume|or_resume|dry_run|hydra\.searchpath)(=|$)"
"""Pattern of the pipeline's own arguments, besides an experiment that lists stages. All others belong to its stages."""
SET_BY_THE_PIPELINE = ("output_dir", "resume", "or_resume", "dry_run")
"""Keys of `rft train` that a stage cannot set."""
NO_STAGES = (
    "stages is empty: select a preset that lists stages, such as experiment=sft_then_grpo, or give keys of each stage, "
    "as in stages.first.learner=sft stages.second.learner=grpo"
)
_NAME = re.compile(r"[A-Za-z0-9][\w-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One run of a pipeline.

    Example:
        Stage(number=2, name="grpo", words=("experiment=quickstart", "loop.steps=40"))
    """

    number: int
    """From 1."""
    name: str
    """Name of the stage."""
    words: tuple[str, ...]
    """Its arguments of `rft train`, without its folder and its start."""

    @property
    def folder_name(self) -> str:
        """Name of its run folder, such as `02-grpo`."""
        return f"{self.number:02}-{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """The parsed arguments of `rft pipeline`.

    Example:
        Pipeline(config=PipelineConfig(...), stages=(Stage(...), Stage(...)))
    """

    config: PipelineConfig
    """The pipeline's own keys."""
    stages: tuple[Stage, ...]
    """The stages, in order."""


def read_pipeline(words: Sequence[str]) -> Pipeline:
    """Parse the arguments of `rft pipeline`.

    Raises:
        ConfigError: The pipeline's own keys, or the names and keys of its stages, have problems.
    """
    experiments = _experiments_of_the_pipeline(words)
    own = [word for word in words if re.match(OF_THE_PIPELINE, word) or word in experiments]
    # Stages use the presets of the user, too.
    searched = [word for word in own if key_of(word) == SEARCHPATH]
    shared = [word for word in words if word not in own]
    config = load(PipelineConfig, "pipeline", own, partial(_problems, shared=shared))
    stages = tuple(
        Stage(number=number, name=name, words=(*searched, *shared, *to_words([values])))
        for number, (name, values) in enumerate(config.stages.items(), start=1)
    )
    return Pipeline(config=config, stages=stages)


def _experiments_of_the_pipeline(words: Sequence[str]) -> list[str]:
    """Return the arguments that select an experiment with stages, or an unknown one, which composing reports."""
    parser = OverridesParser.create()
    folders = searched_folders(parser.parse_override(word) for word in words if key_of(word) == SEARCHPATH)
    known = preset_names("experiment", folders)
    chosen = {word: word.partition("=")[2] for word in words if key_of(word) == "experiment"}
    return [word for word, name in chosen.items() if name not in known or lists_stages(name, folders)]


def _problems(config: PipelineConfig, *, shared: Sequence[str]) -> list[str]:
    """Return the problems of the stages, one sentence each."""
    problems = [
        f"stages.{name}: a stage's name is part of its folder's; use letters, digits, _ and -"
        for name in config.stages
        if not _NAME.fullmatch(name)
    ]
    if not config.stages:
        problems.append(NO_STAGES)
    keys = {name: [key_of(word) for word in to_words([values])] for name, values in config.stages.items()}
    for key in map(key_of, shared):
        if own := [name for name, of_stage in keys.items() if key in of_stage]:
            problems.append(f"{key}: {', '.join(own)} set it for themselves; write stages.{own[0]}.{key}=<value>")
        elif key == "start" and config.stages:
            problems.append(f"start: only the first stage has one; write stages.{next(iter(keys))}.start=<folder>")
    for place, (name, of_stage) in enumerate(keys.items()):
        problems += _of_the_pipeline(name, of_stage, is_first=place == 0)
    return problems


def _of_the_pipeline(name: str, keys: Sequence[str], *, is_first: bool) -> Iterator[str]:
    """Yield the problems of keys that the pipeline sets."""
    for key in keys:
        if key in SET_BY_THE_PIPELINE:
            yield f"stages.{name}.{key}: the pipeline sets it for each stage; leave it out"
        elif key == "start" and not is_first:
            yield f"stages.{name}.start: the stage starts from the result of the one before; leave it out"
