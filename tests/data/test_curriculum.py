"""Shares of families that follow what was measured during training, worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from rft.data.curriculum import Curriculum


def line(step: int, **families: tuple[int, float]) -> dict[str, Any]:
    """The metrics of a step: number of groups, and the share of those that teach, by family."""
    groups = {f"family_groups/{name}": float(number) for name, (number, _) in families.items()}
    teaching = {f"family_informative_share/{name}": share for name, (_, share) in families.items()}
    return {"step": step, "metrics": groups | teaching}


LINES = [
    {"step": 0, "metrics": {"before/mean": 0.1}},
    line(1, a=(3, 1.0), b=(1, 0.0)),
    line(2, a=(1, 0.0), b=(3, 1 / 3)),
    line(3, a=(4, 0.0)),
    line(4, a=(4, 0.0)),
]


def curriculum(**changes: Any) -> Curriculum:
    values: dict[str, Any] = {"every_steps": 2, "floor": 0.1, "staleness": 0, "read": lambda: LINES}
    base = changes.pop("base", {"a": 0.5, "b": 0.5})
    return Curriculum(base, **values | changes)


def test_each_block_follows_from_the_one_before() -> None:
    shares = curriculum()
    assert shares.of_step(1) == shares.of_step(2) == {"a": 0.5, "b": 0.5}
    # a taught in 3 of 4 groups, b in 1 of 4; 0.8 of the steps are left above the floors.
    expected = {"a": 0.1 + 0.8 * 0.75, "b": 0.1 + 0.8 * 0.25}
    assert shares.of_step(3) == shares.of_step(4) == pytest.approx(expected)
    # Then a taught nothing, and b, without a group in the second block, keeps the measurement of the first.
    assert shares.of_step(5) == pytest.approx({"a": 0.1, "b": 0.9})


def test_a_step_that_is_sampled_ahead_does_not_wait_for_metrics() -> None:
    shares = curriculum(staleness=1, read=lambda: LINES[:3])
    assert shares.of_step(3) == {"a": 0.5, "b": 0.5}  # sampled when step 1 is complete
    assert shares.of_step(4) == pytest.approx({"a": 0.7, "b": 0.3})  # when step 2 is complete


def test_shares_before_the_curriculum_count_and_older_families_keep_theirs() -> None:
    base = {"a": 0.2, "b": 0.6, "old": 0.2}
    shares = curriculum(base=base, fixed=frozenset({"old"}))
    # 0.2 x 3/4 = 0.15 and 0.6 x 1/4 = 0.15: halves of the 0.8 that are not replayed.
    assert shares.of_step(3) == pytest.approx({"a": 0.4, "b": 0.4, "old": 0.2})
    assert shares.largest == pytest.approx({"a": 0.72, "b": 0.72, "old": 0.2})


def test_families_that_all_teach_nothing_keep_their_shares() -> None:
    lines = [line(1, a=(2, 0.0), b=(2, 0.0)), line(2, a=(2, 0.0), b=(2, 0.0))]
    assert curriculum(read=lambda: lines).of_step(3) == {"a": 0.5, "b": 0.5}
