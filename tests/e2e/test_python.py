"""docs/quickstart.ipynb and the loop of docs/python.md with vLLM and TRL; tests/api runs both with fakes."""

from __future__ import annotations

from pathlib import Path

import pytest

import rft
from rft.run_folder.find_checkpoint import last_checkpoint
from tests.api.test_parts import LOOP
from tests.api.test_train import cells_of_notebook, in_notebook

pytestmark = [pytest.mark.e2e, pytest.mark.full]


def test_the_loop_of_the_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(LOOP, "docs/python.md", "exec"), {"__name__": "docs"})
    steps = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step ")]
    assert len(steps) == 3
    assert all("proved: True" in line for line in steps)
    [folder] = (tmp_path / "runs" / "quickstart").iterdir()
    checkpoint, step = last_checkpoint(folder)
    assert step == 3
    [rollout] = rft.sample("What is 2 + 3?", adapter=checkpoint, sampler="transformers")
    assert rollout.text


def test_the_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = in_notebook(cells_of_notebook())
    assert names["run"].summary["syncs_proved"] == 10
    assert len(names["rollouts"]) == 4
