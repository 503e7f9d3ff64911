"""From the words of a grid to its trials, and everything that is wrong with any of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from rft.config.grid import check_trials, read_grid
from rft.errors import ConfigError

QUICK = "experiment=quickstart"


def problems(words: list[str]) -> tuple[str, ...]:
    grid = read_grid(["-m", *words])
    with pytest.raises(ConfigError) as caught:
        check_trials(grid.trials, grid.folder)
    return caught.value.problems


def test_every_combination_in_hydras_order() -> None:
    grid = read_grid(["-m", QUICK, "seed=0,1", "++loop.steps=2,4", "name='a b'", "~graders.correct"])
    assert grid.searched == ("seed", "loop.steps")
    assert grid.trials == tuple(
        [QUICK, f"seed={seed}", f"loop.steps={steps}", "name='a b'", "~graders.correct"]
        for seed in (0, 1)
        for steps in (2, 4)
    )


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("seed=range(1,6,2)", ["1", "3", "5"]),
        ("seed=choice(7,8)", ["7", "8"]),
        ("sampler=glob([f*,v*])", ["fake", "vllm"]),
    ],
)
def test_hydras_ways_to_write_several_values(word: str, expected: list[str]) -> None:
    grid = read_grid(["-m", QUICK, word])
    assert [trial[1].partition("=")[2] for trial in grid.trials] == expected


def test_the_folder(tmp_path: Path) -> None:
    grid = read_grid(["-m", QUICK, "seed=0,1", f"hydra.sweep.dir={tmp_path / 'mine'}", "hydra/launcher=basic"])
    assert grid.folder == tmp_path / "mine"
    assert grid.trials == ([QUICK, "seed=0"], [QUICK, "seed=1"]), "what is Hydra's is not the trials'"
    assert read_grid(["-m", QUICK]).folder.parent.name == "quickstart"


def test_a_problem_of_all_trials_is_told_once() -> None:
    (found,) = problems([QUICK, "seed=0,1,2", "loop.stepz=3"])
    assert found.startswith("loop.stepz is unknown; did you mean loop.steps?")
    assert "trial" not in found


def test_a_problem_of_some_trials_says_of_which() -> None:
    found = problems([QUICK, "loop.steps=0,5", "seed=0,1", "loop.stepz=3"])
    assert len(found) == 2
    assert found[0].startswith("loop.steps=0: ")
    assert found[0].endswith("(in trial 0, 1 of 0 to 3)")
    assert found[1].startswith("loop.stepz")


def test_an_interval_is_for_a_search() -> None:
    with pytest.raises(ConfigError, match="rft sweep searches intervals"):
        read_grid(["-m", QUICK, "learner.learning_rate=interval(1e-5,1e-3)"])


def test_each_trial_has_its_own_folder(tmp_path: Path) -> None:
    runs = check_trials([[QUICK, "seed=0"], [QUICK, "seed=1"]], tmp_path / "it's")
    assert [run.output_dir for run in runs] == [str(tmp_path / "it's" / "0"), str(tmp_path / "it's" / "1")]
    assert [run.seed for run in runs] == [0, 1]
