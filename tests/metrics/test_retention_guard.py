"""The guard over the scores of task families during a run."""

from __future__ import annotations

import pytest

from rft.metrics.intervals import paired_difference
from rft.metrics.retention_guard import RetentionGuard


def scores(gcd: float, number: int) -> dict[str, float]:
    """Scores of which the first `gcd` share is 1."""
    return {f"gcd/{index}": float(index < gcd * number) for index in range(number)} | {"sums/0": 0.5}


def guard(limit: float = 0.2, *, stops: bool = False) -> RetentionGuard:
    return RetentionGuard({"gcd": limit}, stops=stops, bounds={"gcd": (0.0, 1.0)})


def test_a_drop_beyond_the_limit_is_told_once_until_it_is_made_good() -> None:
    watch = guard()
    watch.refer_to(scores(1.0, 10))
    warned = []
    for now in (0.9, 0.8, 0.7, 0.6, 0.9, 0.5):
        metrics, warnings = watch.observe(scores(now, 10))
        assert metrics["guard/gcd/mean"] == pytest.approx(1.0 - now)
        warned.append(len(warnings))
    assert warned == [0, 0, 1, 0, 0, 1]
    assert not watch.is_over


@pytest.mark.parametrize(("number", "ends"), [(4, False), (100, True)])
def test_only_a_drop_whose_interval_excludes_0_ends_the_run(number: int, ends: bool) -> None:
    watch = guard(stops=True)
    watch.refer_to(scores(1.0, number))
    metrics, (warning,) = watch.observe(scores(0.5, number))
    before, now = (
        {name: score for name, score in scores(share, number).items() if "gcd" in name} for share in (1, 0.5)
    )
    drop = paired_difference(now, before)
    assert metrics == drop.to_metrics("guard/gcd")
    assert watch.is_over is ends
    assert warning.startswith(
        f"evaluation.guard.gcd=0.2: the score of the family has dropped by {drop.text()} since before the first step, "
        f"over {number} validation tasks; "
    )
    assert ("the run ends" in warning, "the run goes on" in warning) == (ends, not ends)


def test_a_resumed_run_reads_its_state() -> None:
    first = guard(stops=True)
    first.refer_to(scores(1.0, 100))
    lines = [{"metrics": first.observe(scores(now, 100))[0]} for now in (0.9, 0.5)]
    resumed = guard(stops=True)
    resumed.read([*lines, {"metrics": {"reward/mean": 0.5}}])
    assert resumed.is_over
    looser = guard(0.6, stops=True)
    looser.read(lines)
    assert not looser.is_over


def test_a_family_without_scores_is_told() -> None:
    _, (warning,) = guard().observe(scores(1.0, 4))
    assert warning.startswith("evaluation.guard.gcd: no validation task of the family was graded both")
