"""The words of `rft sweep` over the last stage of a pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest

from rft.config.command_line import quoted
from rft.config.search import OneOf, Search
from rft.config.staged_search import read_sweep
from rft.errors import ConfigError

TWO_STAGES = "experiment=sft_then_grpo"


def space_of(search: Search) -> dict[str, list[str]]:
    return {key: range.examples for key, range in search.space.items()}


def test_keys_of_the_last_stage_are_searched() -> None:
    rate = "stages.grpo.learner.learning_rate=tag(log,interval(1e-4,1e-2))"
    search = read_sweep([TWO_STAGES, rate, "stages.grpo.learner=grpo,raft", "seed=3", "sweep.trials=7"])
    assert space_of(search) == {"learner.learning_rate": ["0.0001", "0.01"], "learner": ["grpo", "raft"]}
    assert (search.config.sweep.trials, [stage.folder_name for stage in search.before]) == (7, ["01-sft"])
    assert search.before[0].words[0] == "seed=3"
    expected = ("seed=3", "experiment=quickstart", "name=sft_then_grpo", "loop.steps=6")
    assert search.stage is not None
    assert (search.stage.name, search.stage.number, search.stage.words, search.words) == ("grpo", 2, expected, expected)
    assert search.corners()[0] == [*expected, "learner.learning_rate=0.0001", "learner=grpo"]


def test_stages_on_the_command_line() -> None:
    words = ["experiment=quickstart", "stages.first.learner=sft", "stages.second.loop.steps=4,8"]
    search = read_sweep(words)
    assert (space_of(search), search.words) == ({"loop.steps": ["4", "8"]}, ("experiment=quickstart",))
    assert [stage.words for stage in search.before] == [("experiment=quickstart", "learner=sft")]


def test_a_preset_replaces_what_the_experiment_sets_but_not_what_is_typed(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\n"
        "stages:\n  one: {experiment: quickstart}\n  two: {experiment: quickstart, learner.learning_rate: 1e-3}\n"
    )
    words = [f"hydra.searchpath=[{quoted(f'file://{tmp_path}')}]", "experiment=mine", "sweep=lr_optuna"]
    assert list(space_of(read_sweep(words))) == ["learner.learning_rate"]
    assert not any("learning_rate" in word for word in read_sweep(words).words)
    with pytest.raises(ConfigError, match=r"sweep\.space is empty"):
        read_sweep([*words, "stages.two.learner.learning_rate=1e-4"])


def test_a_search_over_runs_has_no_stages() -> None:
    search = read_sweep(["experiment=quickstart", "seed=0,1"])
    assert (search.space, search.before, search.stage) == ({"seed": OneOf(values=("0", "1"))}, (), None)


def test_what_cannot_be_searched() -> None:
    with pytest.raises(ConfigError) as caught:
        read_sweep([TWO_STAGES, "stages.sft.loop.steps=4,8", "seed=0,1"])
    assert caught.value.problems == (
        "stages.sft.loop.steps=4,8: the stages before the last one run once; give one value",
        "seed=0,1: a key of all stages, of which only the last one can have several values; write stages.grpo.seed=0,1",
    )
    for words in (["stages.grpo.start_mode=merge", "stages.grpo.seed=0,1"], ["stages.grpo.start_mode=stack,merge"]):
        with pytest.raises(ConfigError, match=r"stages.grpo.start_mode=merge: each trial of a sweep would merge"):
            read_sweep([TWO_STAGES, *words])
    with pytest.raises(ConfigError, match=r"sweep\.space is empty"):
        read_sweep([TWO_STAGES])
