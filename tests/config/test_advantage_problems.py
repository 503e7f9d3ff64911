"""A user's own function for the advantages, looked at before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from rft.config.advantage_problems import advantage_problems

MODULE = """
import torch

def half(rewards, group_size):
    groups = rewards.view(-1, group_size)
    return (groups - 0.5 * groups.nan_to_num(0).amax(1, keepdim=True)).flatten()

def a_list(rewards, group_size):
    return [0.0 if reward != reward else reward for reward in rewards.tolist()]

def of_groups(rewards, group_size):
    return rewards.view(-1, group_size).nanmean(1)

def infinite(rewards, group_size):
    return rewards / 0

def in_place(rewards, group_size):
    return rewards.mul_(2)

def one_argument(rewards):
    return rewards

number = 3
"""


@pytest.fixture
def module(tmp_path: Path) -> str:
    file = tmp_path / "mine.py"
    file.write_text(MODULE)
    return str(file)


@pytest.mark.parametrize("name", ["half", "a_list", "in_place"])
def test_functions_without_a_problem(module: str, name: str) -> None:
    assert advantage_problems(f"{module}:{name}") == []


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("of_groups", "returned the shape [2] for rewards that differ; the function must return one advantage for "),
        ("infinite", "returned [inf, nan, nan, inf, inf, inf, inf, nan] for rewards that differ; "),
        ("one_argument", "failed for rewards that differ: TypeError: one_argument() takes 1 positional "),
        ("number", "should be a function, not int"),
        ("halve", "mine.py has no 'halve' (did you mean 'half'?); it has: half, a_list, "),
    ],
)
def test_what_is_wrong_is_said(module: str, name: str, problem: str) -> None:
    (found,) = advantage_problems(f"{module}:{name}")
    assert found.startswith(f"learner.advantage={module}:{name}: ")
    assert problem in found


def test_what_names_no_file(tmp_path: Path) -> None:
    assert advantage_problems("grup") == [
        "learner.advantage=grup: should be 'group', 'rloo', or your own function, such as path/to/file.py:function"
    ]
    (found,) = advantage_problems(f"{tmp_path}/none.py:f")
    assert "none.py does not exist" in found
