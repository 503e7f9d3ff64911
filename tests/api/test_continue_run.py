"""`rft.continue_run`: the configuration and the command of the new run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

import rft
from rft.config import RunConfig
from rft.config.commands import load_training
from rft.errors import ConfigError

WEEK_2 = {"data": {"train": "embedded:gcd/train", "replay": 0.2}}


@pytest.fixture
def earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of the quickstart. Nothing reads its adapter here."""
    monkeypatch.setattr("rft.config.start_settings._started", lambda run: (run, []))
    folder = tmp_path / "run"
    folder.mkdir()
    run = load_training(["experiment=quickstart", "seed=3"])
    (folder / "config.yaml").write_text(yaml.safe_dump(run.model_dump()))
    (folder / "manifest.json").write_text("{}")
    return folder


def test_the_new_run(earlier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[tuple[RunConfig, Sequence[str]]] = []

    def train_run(run: RunConfig, *, command: Sequence[str], console: object) -> tuple[rft.Run, int]:
        trained.append((run, command))
        return rft.Run(earlier), 0 if len(trained) == 1 else 130

    monkeypatch.setattr("rft.api.continue_run.train_run", train_run)
    assert rft.continue_run({"run": earlier}, WEEK_2).folder == earlier
    ((run, command),) = trained
    assert (run.start, run.seed, run.data.replay) == (str(earlier), 3, 0.2)
    assert [(name, family.older) for name, family in run.data.mixture.items()] == [("chain_sum", True), ("gcd", False)]
    assert command == ["rft.continue_run", f"run='{earlier}'", "data.train='embedded:gcd/train'", "data.replay=0.2"]
    with pytest.raises(KeyboardInterrupt):
        rft.continue_run({"run": earlier}, WEEK_2)


def test_what_python_refuses(earlier: Path) -> None:
    with pytest.raises(ConfigError, match="run is missing"):
        rft.continue_run(WEEK_2)
    with pytest.raises(ConfigError, match="dry_run=true: in Python"):
        rft.continue_run({"run": earlier, "dry_run": True}, WEEK_2)
