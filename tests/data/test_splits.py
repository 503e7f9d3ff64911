"""The three task sets: splitting off validation, and prompts that are in two of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from rft.data.splits import TaskSets, load_task_sets, split_off
from rft.errors import DataError
from rft.types import Split, Task


def placed(*prompts: str) -> list[Task]:
    """One task a prompt."""
    return [
        Task(
            id=f"{line}",
            messages=({"role": "user", "content": prompt},),
            item={},
            split=Split.TRAIN,
            where=f"train.jsonl:{line}",
        )
        for line, prompt in enumerate(prompts, start=1)
    ]


def write(path: Path, *prompts: str) -> str:
    path.write_text("".join(json.dumps({"prompt": prompt, "file": path.name}) + "\n" for prompt in prompts))
    return str(path)


def load(**given: Any) -> TaskSets:
    defaults: dict[str, Any] = {"train": None, "validation": None, "test": None, "columns": {}, "system": None}
    return load_task_sets(**defaults | {"validation_share": 0.0, "seed": 0, "allow_overlap": False} | given)


def test_each_source_becomes_its_set(tmp_path: Path) -> None:
    sets = load(
        train=write(tmp_path / "a.jsonl", "1", "2"),
        validation=write(tmp_path / "b.jsonl", "3"),
        test=write(tmp_path / "c.jsonl", "4"),
    )
    assert [(task.messages[0]["content"], task.split) for task in sets.train] == [("1", "train"), ("2", "train")]
    assert [(task.messages[0]["content"], task.split) for task in sets.validation] == [("3", "validation")]
    assert [(task.messages[0]["content"], task.split) for task in sets.test] == [("4", "test")]


def test_a_run_that_only_evaluates_has_no_training_tasks(tmp_path: Path) -> None:
    sets = load(test=write(tmp_path / "test.jsonl", "4"), validation_share=0.1)
    assert (len(sets.train), len(sets.validation), len(sets.test)) == (0, 0, 1)


def test_the_findings_of_all_files_come_at_once(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text("[]\n{}\n")
    with pytest.raises(DataError) as caught:
        load(train=str(bad), validation=str(tmp_path / "missing.jsonl"), test=write(tmp_path / "test.jsonl"))
    problems = caught.value.problems
    assert [problem.split(": ")[0] for problem in problems[:2]] == [f"{bad}:1", f"{bad}:2"]
    assert problems[2].startswith(f"data.validation={tmp_path}/missing.jsonl: no file at")
    assert problems[3] == f"data.test={tmp_path}/test.jsonl is empty: it contains no task"


def test_the_same_prompt_in_two_sets_is_refused(tmp_path: Path) -> None:
    files = {
        "train": write(tmp_path / "train.jsonl", "a", "b  c", "d", "e", "f"),
        "validation": write(tmp_path / "validation.jsonl", "v", "a"),
        "test": write(tmp_path / "test.jsonl", "f", "v", "e", " b\nc", "d", "t"),
    }
    with pytest.raises(DataError) as caught:
        load(**files)
    remedy = "remove them from one of the files, or set data.allow_overlap=true"
    assert [problem.replace(f"{tmp_path}/", "") for problem in caught.value.problems] == [
        f"1 of the 2 prompts of data.validation are also in data.train (validation.jsonl:2 = train.jsonl:1); {remedy}",
        "4 of the 6 prompts of data.test are also in data.train "
        f"(test.jsonl:1 = train.jsonl:5, test.jsonl:3 = train.jsonl:4, test.jsonl:4 = train.jsonl:2, ...); {remedy}",
        f"1 of the 6 prompts of data.test are also in data.validation (test.jsonl:2 = validation.jsonl:1); {remedy}",
    ]
    sets = load(**files, allow_overlap=True)
    assert (len(sets.train), len(sets.validation), len(sets.test)) == (5, 2, 6)


def test_validation_is_split_off(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", *(f"prompt {n}" for n in range(1000)))
    sets = load(train=train, validation_share=0.1)
    # A binomial with 1000 draws of 0.1: 100 with a standard deviation of 9.5.
    assert 60 < len(sets.validation) < 140
    assert {task.split for task in sets.validation} == {Split.VALIDATION}
    assert len({task.id for task in sets.train} | {task.id for task in sets.validation}) == 1000
    assert load(train=train, validation_share=0.1) == sets
    assert load(train=train, validation_share=0.1, seed=1).validation != sets.validation


def test_a_validation_source_comes_before_a_share(tmp_path: Path) -> None:
    sets = load(
        train=write(tmp_path / "a.jsonl", "1", "2"), validation=write(tmp_path / "b.jsonl", "3"), validation_share=0.5
    )
    assert (len(sets.train), len(sets.validation)) == (2, 1)


def test_an_added_task_moves_no_other() -> None:
    prompts = [f"prompt {n}" for n in range(200)]
    held_out = {one.messages[0]["content"] for one in split_off(placed(*prompts), share=0.2, seed=0)[1]}
    more = {one.messages[0]["content"] for one in split_off(placed("new", *prompts), share=0.2, seed=0)[1]}
    assert more - {"new"} == held_out


@pytest.mark.parametrize("share", [1e-9, 0.5, 1 - 1e-9])
def test_each_side_gets_a_prompt(share: float) -> None:
    for seed in range(20):
        left, held_out = split_off(placed("a", "b", "c"), share=share, seed=seed)
        assert left
        assert held_out
        assert len(left) + len(held_out) == 3


def test_the_rows_of_one_prompt_stay_together() -> None:
    for seed in range(20):
        left, held_out = split_off(placed("a", "b", " a", "b "), share=0.5, seed=seed)
        assert {one.where for one in left} in ({"train.jsonl:1", "train.jsonl:3"}, {"train.jsonl:2", "train.jsonl:4"})
        assert len(held_out) == 2


@pytest.mark.parametrize(
    ("share", "problem"),
    [
        (0.5, "data.validation_share=0.5 cannot split the one prompt of data.train; add tasks, or set it to 0"),
        (1.0, "data.validation_share=1.0 must be at least 0 (none) and below 1"),
        (-0.1, "data.validation_share=-0.1 must be at least 0 (none) and below 1"),
    ],
)
def test_a_share_that_cannot_be(tmp_path: Path, share: float, problem: str) -> None:
    with pytest.raises(DataError) as caught:
        load(train=write(tmp_path / "train.jsonl", "a"), validation_share=share)
    assert problem in str(caught.value)


def rows_of(path: Path, *rows: dict[str, object]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_the_values_of_a_group_stay_together(tmp_path: Path) -> None:
    rows = [{"prompt": f"Row {number}", "customer": number % 10} for number in range(100)]
    sets = load(train=rows_of(tmp_path / "a.jsonl", *rows), validation_share=0.3, group_by="customer")
    customers = [{task.item["customer"] for task in own} for own in (sets.train, sets.validation)]
    assert customers[0] | customers[1] == {*range(10)} and not customers[0] & customers[1]


@pytest.mark.parametrize("seed", range(5))
def test_groups_that_share_a_prompt_stay_together(tmp_path: Path, seed: int) -> None:
    rows = [{"prompt": f"Row {number}", "customer": number // 2} for number in range(12)]
    rows += [{"prompt": "Row 0", "customer": 3}, {"prompt": "Row 7", "customer": 5}]  # links 0, 3 and 5
    source = rows_of(tmp_path / "a.jsonl", *rows)
    sets = load(train=source, validation_share=0.5, group_by="customer", seed=seed)
    parts = [{task.item["customer"] for task in own} for own in (sets.train, sets.validation)]
    assert not parts[0] & parts[1] and sorted(len({0, 3, 5} & part) for part in parts) == [0, 3]


def test_one_cluster_of_groups_cannot_be_split(tmp_path: Path) -> None:
    source = rows_of(tmp_path / "a.jsonl", {"prompt": "a", "customer": 1}, {"prompt": "a", "customer": 2})
    with pytest.raises(DataError, match="values that share a prompt count as one"):
        load(train=source, validation_share=0.5, group_by="customer")


def test_values_of_a_group_in_two_files(tmp_path: Path) -> None:
    train = rows_of(tmp_path / "a.jsonl", {"prompt": "a", "customer": 7}, {"prompt": "b"})
    with pytest.raises(DataError) as refused:
        load(train=train, test=rows_of(tmp_path / "b.jsonl", {"prompt": "c", "customer": 7}), group_by="customer")
    missing, shared = refused.value.problems
    assert missing.startswith("1 of the 2 rows of data.train have no column 'customer' (data.group_by=customer)")
    assert shared.startswith("1 values of 'customer' are in data.train and in data.test: 7 (")
