"""Parses the arguments of `rft pipeline`: its own keys, those of every stage, and those of one stage."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
_OF_A_STAGE = re.compile(r"\+*stages\.(?P<name>[^.=]+)\.(?P<word>[^=]+=.*)", re.DOTALL)
"""An argument that sets a key of one stage."""


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
    given: dict[str, list[str]] = {}
    """The arguments that set a key of one stage, by its name. They stay as typed: composed, `learner=sft` and
    `learner.learning_rate=1e-3` of a stage would contradict each other."""
    for word in words:
        if match := _OF_A_STAGE.fullmatch(word):
            given.setdefault(match["name"], []).append(match["word"])
    own = [word for word in words if re.match(OF_THE_PIPELINE, word) or word in experiments]
    # Stages use the presets of the user, too.
    searched = [word for word in own if key_of(word) == SEARCHPATH]
    shared = [word for word in words if word not in own]
    config = load(
        PipelineConfig,
        "pipeline",
        [word for word in own if not _OF_A_STAGE.fullmatch(word)],
        lambda config: _problems(_words_of_stages(config, given), shared=shared),
    )
    stages = tuple(
        Stage(number=number, name=name, words=(*searched, *shared, *of_stage))
        for number, (name, of_stage) in enumerate(_words_of_stages(config, given).items(), start=1)
    )
    return Pipeline(config=config, stages=stages)


def names_stages(words: Sequence[str]) -> bool:
    """Whether arguments describe a pipeline: they set keys of stages, or select an experiment that lists stages."""
    folders = _preset_folders(words)
    chosen = [word.partition("=")[2] for word in words if key_of(word) == "experiment"]
    return any(re.match(r"[+~]*stages[.=]", word) for word in words) or any(
        lists_stages(name, folders) for name in chosen
    )


def _words_of_stages(config: PipelineConfig, given: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return the arguments of `rft train` of each stage, by name: those of the experiment, and those given."""
    stages: dict[str, list[str]] = {}
    for name in {**config.stages, **given}:
        own = given.get(name, ())
        replaced = {key_of(word) for word in own}
        listed = to_words([config.stages.get(name, {})])
        stages[name] = [*(word for word in listed if key_of(word) not in replaced), *own]
    return stages


def _preset_folders(words: Sequence[str]) -> list[Path]:
    """Return the folders to search for presets."""
    parser = OverridesParser.create()
    return searched_folders(parser.parse_override(word) for word in words if key_of(word) == SEARCHPATH)


def _experiments_of_the_pipeline(words: Sequence[str]) -> list[str]:
    """Return the arguments that select an experiment with stages, or an unknown one, which composing reports."""
    folders = _preset_folders(words)
    known = preset_names("experiment", folders)
    chosen = {word: word.partition("=")[2] for word in words if key_of(word) == "experiment"}
    return [word for word, name in chosen.items() if name not in known or lists_stages(name, folders)]


def _problems(stages: Mapping[str, Sequence[str]], *, shared: Sequence[str]) -> list[str]:
    """Return the problems of the stages, one sentence each."""
    problems = [
        f"stages.{name}: a stage's name is part of its folder's; use letters, digits, _ and -"
        for name in stages
        if not _NAME.fullmatch(name)
    ]
    if not stages:
        problems.append(NO_STAGES)
    keys = {name: [key_of(word) for word in words] for name, words in stages.items()}
    for key in map(key_of, shared):
        if own := [name for name, of_stage in keys.items() if key in of_stage]:
            problems.append(f"{key}: also among the keys of {', '.join(own)}; write stages.{own[0]}.{key}=<value>")
        elif key == "start" and stages:
            problems.append(f"start: only the first stage has one; write stages.{next(iter(keys))}.start=<folder>")
        elif key == "start_mode" and len(stages) > 1 and "start" not in next(iter(keys.values())):
            first, second, *_ = keys
            problems.append(
                f"start_mode: the first stage, {first}, starts from the base model; write stages.{second}.start_mode="
                "<mode> for later ones"
            )
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
