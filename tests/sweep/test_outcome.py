"""How trials end, how they are ranked, and that what is written is read again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rft.metrics.intervals import Estimate
from rft.sweep.outcome import Outcome, distinct_overrides, outcome_of, ranked, read_outcomes, record, winner


def outcome(number: int, mean: float | None, status: str = "finished", folder: Path = Path("x")) -> Outcome:
    score = None if mean is None else Estimate(mean=mean, ci95=(mean - 0.1, mean + 0.1), n=10)
    return Outcome(number=number, folder=folder, status=status, score=score)  # type: ignore[arg-type]


TRIALS = [outcome(0, 0.4), outcome(1, None, "failed"), outcome(2, 0.7), outcome(3, 0.7), outcome(4, 0.9, "interrupted")]


def test_the_best_first_and_what_did_not_finish_last() -> None:
    assert [one.number for one in ranked(TRIALS)] == [2, 3, 0, 1, 4]
    assert [one.number for one in ranked(TRIALS, "minimize")] == [0, 2, 3, 1, 4]


def test_the_winner_has_finished() -> None:
    assert winner(TRIALS) is TRIALS[2]
    assert winner(TRIALS, "minimize") is TRIALS[0]
    assert winner([TRIALS[1], TRIALS[4]]) is None
    assert winner([]) is None


def test_written_and_read_again(tmp_path: Path) -> None:
    for number in (10, 2):
        record(outcome(number, 0.5, folder=tmp_path / "deep" / str(number)))
    record(outcome(3, None, "failed", folder=tmp_path / "3"))
    found = read_outcomes(tmp_path)
    assert [one.number for one in found] == [2, 3, 10]
    assert found[0] == outcome(2, 0.5, folder=tmp_path / "deep" / "2")


def test_the_outcome_is_that_of_the_runs_summary(tmp_path: Path) -> None:
    summary = {"status": "finished", "eval": {"after": {"mean": 0.25, "ci95": [0.1, 0.5], "n": 12}}}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    found = outcome_of(tmp_path, number=7, overrides=["seed=1"], wall_s=3.0)
    assert (found.status, found.score) == ("finished", Estimate(mean=0.25, ci95=(0.1, 0.5), n=12))
    written = json.loads((tmp_path / "trial.json").read_text())
    assert {key: written[key] for key in ("overrides", "status", "score", "ci95", "wall_s", "run")} == {
        "overrides": ["seed=1"],
        "status": "finished",
        "score": 0.25,
        "ci95": [0.1, 0.5],
        "wall_s": 3.0,
        "run": str(tmp_path),
    }


def test_a_failed_trial_has_no_score(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(json.dumps({"status": "failed", "eval": {"after": None}}))
    found = outcome_of(tmp_path, number=0, overrides=[], wall_s=0.0, error="it broke")
    assert (found.status, found.score, found.error) == ("failed", None, "it broke")


@pytest.mark.parametrize(
    ("searched", "expected"),
    [(["seed"], "seed=3"), (["a.b", "seed"], "a.b=x seed=3"), ([], "as configured")],
)
def test_what_is_particular_to_a_trial(searched: list[str], expected: str) -> None:
    assert distinct_overrides(["experiment=quickstart", "++a.b=x", "seed=3"], searched) == expected


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        (r"g/my.py\:valid", "g/my.py:valid"),
        (r"a\ b\,c\=\(\[\{\}\]\)", "a b,c=([{}])"),
        (r"C\:\\x", r"C:\x"),
        (r"\d", r"\d"),
        ("'a b'", "'a b'"),
    ],
)
def test_settings_are_shown_without_hydras_escapes(written: str, plain: str) -> None:
    given = Outcome(number=0, overrides=(f"graders.x.use={written}",), folder=Path("x"), status="finished")
    assert given.settings(["graders.x.use"]) == {"graders.x.use": plain}
