"""What a sweep leaves behind: sweep.json, the winner's adapter, plots, and a table."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rft.metrics.intervals import Estimate
from rft.run_folder.recorder import Recorder
from rft.sweep.outcome import Outcome
from rft.sweep.report import finish_sweep
from rft.types import Policy, StepReport

PNG = b"\x89PNG\r\n\x1a\n"


def trial(folder: Path, number: int, mean: float | None, **more: Any) -> Outcome:
    run = folder / str(number)
    (run / "adapter").mkdir(parents=True)
    (run / "adapter" / "adapter_model.safetensors").write_bytes(bytes([number]))
    for step in (1, 2):
        report = StepReport(step=step, policy=Policy(version=step, fingerprint="f"), metrics={"eval/mean": 0.1 * step})
        Recorder(run).metrics(report)
    return Outcome(
        number=number,
        overrides=("experiment=quickstart", f"learner.learning_rate={10.0**-number:g}", "name='a b'"),
        folder=run,
        status=more.pop("status", "finished"),
        score=None if mean is None else Estimate(mean=mean, ci95=(mean - 0.1, mean + 0.1), n=20),
        wall_s=61.4,
        **more,
    )


def finished(folder: Path, outcomes: list[Outcome]) -> tuple[dict[str, Any], str]:
    printed = io.StringIO()
    console = Console(file=printed, width=160)
    finish_sweep(folder, outcomes, searched=["learner.learning_rate"], wall_s=100.0, console=console)
    return json.loads((folder / "sweep.json").read_text()), printed.getvalue()


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plots of a sweep take most of a report's time."""
    monkeypatch.setattr("rft.sweep.plots.plot_sweep", lambda *_: [])


@pytest.fixture
def outcomes(tmp_path: Path) -> list[Outcome]:
    failed = trial(tmp_path, 2, None, status="failed", error="grader 'w' failed\nmore of it")
    return [trial(tmp_path, 0, 0.5), trial(tmp_path, 1, 0.75), failed]


@pytest.mark.usefixtures("undrawn")
def test_what_a_script_reads(tmp_path: Path, outcomes: list[Outcome]) -> None:
    sweep, _ = finished(tmp_path, outcomes)
    assert sweep["counts"] == {"finished": 2, "failed": 1}
    assert [one["score"] for one in sweep["trials"]] == [0.5, 0.75, None]
    assert sweep["trials"][1]["ci95"] == [0.65, 0.85]
    assert all({"overrides", "status", "score", "ci95", "wall_s", "run"} <= one.keys() for one in sweep["trials"])


@pytest.mark.usefixtures("undrawn")
def test_the_winners_adapter_and_the_command_that_repeats_it(tmp_path: Path, outcomes: list[Outcome]) -> None:
    sweep, printed = finished(tmp_path, outcomes)
    assert sweep["winner"]["number"] == 1
    assert (Path(sweep["winner"]["adapter"]) / "adapter_model.safetensors").read_bytes() == bytes([1])
    assert (
        sweep["winner"]["command"]
        == """rft train experiment=quickstart learner.learning_rate=0.1 'name='"'"'a b'"'"''"""
    )
    assert sweep["winner"]["command"] in printed


@pytest.mark.usefixtures("undrawn")
def test_a_winner_with_a_whole_model(tmp_path: Path, outcomes: list[Outcome]) -> None:
    (tmp_path / "1" / "adapter").rename(tmp_path / "1" / "model")
    (tmp_path / "winner").mkdir()  # of an earlier winner
    sweep, printed = finished(tmp_path, outcomes)
    assert (sweep["winner"]["adapter"], sweep["winner"]["model"]) == (None, str(tmp_path / "1" / "model"))
    assert not (tmp_path / "winner").exists()
    assert f"  model     {tmp_path / '1' / 'model'}" in printed


@pytest.mark.usefixtures("undrawn")
def test_the_table_has_the_best_first_and_says_what_failed(tmp_path: Path, outcomes: list[Outcome]) -> None:
    _, printed = finished(tmp_path, outcomes)
    rows = [line for line in printed.splitlines() if line.startswith("│")]
    assert "learning_rate" in rows[0]
    cells = [[cell.strip() for cell in row.strip("│").split("│")] for row in rows[1:]]
    assert cells == [
        ["1", "0.1", "0.750", "[0.650, 0.850]", "61 s", "finished"],
        ["0", "1", "0.500", "[0.400, 0.600]", "61 s", "finished"],
        ["2", "0.01", "-", "-", "61 s", "failed"],
    ]
    assert "3 trials in 100 s: 2 finished, 1 failed" in printed
    assert "trial 2 failed: grader 'w' failed (1 more lines in" in printed


def test_the_plots(tmp_path: Path, outcomes: list[Outcome]) -> None:
    finished(tmp_path, outcomes)
    found = sorted(path.name for path in (tmp_path / "plots").iterdir())
    assert found == ["courses.png", "settings.png", "trials.png"]
    assert all((tmp_path / "plots" / name).read_bytes().startswith(PNG) for name in found)


@pytest.mark.usefixtures("undrawn")
def test_without_a_score_there_is_no_winner(tmp_path: Path) -> None:
    sweep, printed = finished(tmp_path, [trial(tmp_path, 0, None, status="failed", error="x")])
    assert sweep["winner"] is None
    assert "so there is no winner" in printed
