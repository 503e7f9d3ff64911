"""The manifest and the model card: complete, readable by machines, and silent about what is not known."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from rft import __version__
from rft.run_folder import provenance
from rft.run_folder.provenance import manifest
from rft.types import Split, Task

TASK = Task(id="a", messages=({"role": "user", "content": "x"},), item={"b": 1}, split=Split.TRAIN)
SHA_OF_TASK = "975bbb62c5b7a8685cfcab9b59c254be28b04b0f99a53ceea8cc9e84e7b2d7d0"
"""Of the line {"item": {"b": 1}, "messages": [{"content": "x", "role": "user"}]}, by sha256sum."""


@pytest.fixture
def example() -> dict[str, Any]:
    return manifest(
        method="grpo",
        seed=7,
        command=["rft", "train", "task=a b"],
        base_model={"path": "models/tiny", "fingerprint": "9b2e51c07d44a1f0"},
        tasks={"train": ("train.jsonl", [TASK])},
        graders={"correct": {"weight": 1.0, "source": "graders/exact|match.py", "sha256": "00ff"}},
        sandbox={"rung": 2, "name": "namespaces"},
    )


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_manifest_holds_versions_hashes_and_seed(example: dict[str, Any]) -> None:
    assert json.loads(json.dumps(example, allow_nan=False)) == example
    assert example["rft"] == __version__
    assert example["libraries"]["numpy"].count(".") == 2
    assert example["tasks"]["train"] == {"source": "train.jsonl", "num_tasks": 1, "sha256": SHA_OF_TASK}
    assert example["base_model"] == {"path": "models/tiny", "fingerprint": "9b2e51c07d44a1f0"}
    assert example["seed"] == 7
    assert example["sandbox"] == {"rung": 2, "name": "namespaces"}
    assert example["started_at"].endswith("+00:00")


def test_libraries_that_are_not_installed_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "LIBRARIES", ("numpy", "no-such-library"))
    assert list(provenance._library_versions.__wrapped__()) == ["numpy"]


def test_git_state_of_a_checkout(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert provenance._git_state(tmp_path) is None  # no commit yet
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-q", "-m", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert provenance._git_state(tmp_path) == {"commit": commit, "is_dirty": False}
    (tmp_path / "a").write_text("2")
    assert provenance._git_state(tmp_path) == {"commit": commit, "is_dirty": True}


def test_no_checkout_and_no_git_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert provenance._git_state(tmp_path) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance._git_state(Path.cwd()) is None
