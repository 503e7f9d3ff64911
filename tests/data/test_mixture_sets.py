"""The task files of a mixture's families."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rft.data.mixture_sets import FamilySources, load_mixture
from rft.data.splits import TaskSets
from rft.errors import DataError
from rft.types import Split

KEYS = {Split.TRAIN: "source", Split.VALIDATION: "validation", Split.TEST: "test"}


def write(path: Path, *prompts: str, column: str = "prompt") -> str:
    path.write_text("".join(json.dumps({"id": number, column: text}) + "\n" for number, text in enumerate(prompts)))
    return str(path)


def load(families: dict[str, dict[Split, str]], columns: dict[str, str] | None = None, **options: Any) -> TaskSets:
    sources = {
        name: FamilySources(
            files={split: (f"data.mixture.{name}.{KEYS[split]}", source) for split, source in files.items()},
            columns=(columns or {}) if name == "gcd" else {},
        )
        for name, files in families.items()
    }
    defaults: dict[str, Any] = {"validation_share": 0.0, "seed": 0, "allow_overlap": False, "system": None}
    return load_mixture(sources, **defaults | options)


def test_tasks_know_their_family_and_files_may_use_the_same_ids(tmp_path: Path) -> None:
    sets = load(
        {
            "sums": {
                Split.TRAIN: write(tmp_path / "sums.jsonl", "1 + 1", "1 + 2"),
                Split.VALIDATION: write(tmp_path / "sums_validation.jsonl", "2 + 1", "2 + 2", "2 + 3"),
            },
            "gcd": {
                Split.TRAIN: write(tmp_path / "gcd.jsonl", "gcd(1, 1)", column="question"),
                Split.VALIDATION: write(tmp_path / "gcd_validation.jsonl", "gcd(2, 2)", column="question"),
                Split.TEST: write(tmp_path / "gcd_test.jsonl", "gcd(3, 3)", column="question"),
            },
        },
        columns={"prompt": "question"},
    )
    assert [(task.id, task.family) for task in sets.train] == [("sums/0", "sums"), ("sums/1", "sums"), ("gcd/0", "gcd")]
    # In turn, so that the first few are of all families.
    assert [task.id for task in sets.validation] == ["sums/0", "gcd/0", "sums/1", "sums/2"]
    assert [(task.id, task.split) for task in sets.test] == [("gcd/0", Split.TEST)]


def test_each_family_gives_its_share_of_validation_tasks(tmp_path: Path) -> None:
    families = {
        name: {Split.TRAIN: write(tmp_path / f"{name}.jsonl", *(f"{name} {number}" for number in range(200)))}
        for name in ("sums", "gcd")
    }
    sets = load(families, validation_share=0.25)
    for name in families:
        held_out = sum(task.family == name for task in sets.validation)
        assert 25 < held_out < 75  # of 200 with the share 0.25: the mean 50, the standard deviation 6
        assert held_out + sum(task.family == name for task in sets.train) == 200


def test_all_problems_of_all_families_come_together(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"question": "x"}\n')
    shared = write(tmp_path / "test.jsonl", "1 + 1", "5 + 5")
    with pytest.raises(DataError) as caught:
        load(
            {
                "sums": {Split.TRAIN: write(tmp_path / "sums.jsonl", "1 + 1")},
                "gcd": {Split.TRAIN: str(tmp_path / "bad.jsonl"), Split.TEST: shared},
                "bits": {Split.TEST: str(tmp_path / "missing.jsonl")},
            }
        )
    row, missing, overlap = caught.value.problems
    assert row.startswith(f'{tmp_path}/bad.jsonl:1: neither "messages" nor "prompt"')
    assert missing.startswith(f"data.mixture.bits.test={tmp_path}/missing.jsonl: no file at")
    assert overlap.startswith("1 of the 2 prompts of data.mixture.*.test are also in data.mixture.*.source (")
