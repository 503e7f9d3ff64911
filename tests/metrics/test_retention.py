"""What later stages of a training have forgotten, worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from rft.metrics.intervals import Estimate, estimate, mean_of_estimates, paired_difference
from rft.metrics.retention import Cell, Stage, retention
from rft.metrics.retention_report import guard_warnings, retention_header, retention_notes, retention_rows


def stage(name: str, trained: tuple[str, ...] = (), /, **scores: list[float] | Cell) -> Stage:
    cells = {
        family: known
        if isinstance(known, Cell)
        else Cell(identity="same", by_task={f"{family}/{number}": score for number, score in enumerate(known)})
        for family, known in scores.items()
    }
    return Stage(name=name, fingerprint=f"f of {name}", trained=trained, cells=cells)


STAGES = [
    stage("before", sums=[0, 0, 0, 0], gcd=[0, 0, 0, 0], bits=[1, 0, 0, 0]),
    stage("01-sums", ("sums",), sums=[1, 1, 1, 0], gcd=[0, 0, 1, 0], bits=[1, 1, 0, 0]),
    stage("02-gcd", ("gcd", "sums"), sums=[1, 0, 1, 0], gcd=[1, 1, 1, 1], bits=[0, 1, 0, 0]),
]


def mean(value: dict[str, Any] | None) -> float | None:
    return None if value is None else value["mean"]


def test_the_matrix_with_backward_transfer_and_forgetting() -> None:
    result = retention(STAGES, {"sums": (0.0, 1.0), "gcd": (0.0, 1.0), "bits": (0.0, 1.0)})
    assert result["stages"] == ["before", "01-sums", "02-gcd"]
    families = result["families"]
    assert {name: family["scores"] for name, family in families.items()} == {
        "sums": [0.0, 0.75, 0.5],
        "gcd": [0.0, 0.25, 1.0],
        "bits": [0.25, 0.5, 0.25],
    }
    assert {name: family["trained_in"] for name, family in families.items()} == {
        "sums": "01-sums",
        "gcd": "02-gcd",
        "bits": None,
    }
    # Sums fall from 3 to 2 of 4 tasks after they were learned; bits, which no stage trains, from 2 to 1.
    assert mean(families["sums"]["backward_transfer"]) == -0.25
    assert mean(families["sums"]["forgetting"]) == 0.25
    assert (families["bits"]["backward_transfer"], mean(families["bits"]["forgetting"])) == (None, 0.25)
    # The last stage is the first to train gcd, so there is nothing that it could have forgotten.
    assert families["gcd"]["backward_transfer"] is families["gcd"]["forgetting"] is None
    assert (mean(result["backward_transfer"]), mean(result["forgetting"])) == (-0.25, 0.25)
    pairs = [STAGES[number].cells["bits"].by_task for number in (1, 2)]
    assert families["bits"]["forgetting"] == paired_difference(pairs[1], pairs[0]).to_json()
    assert result["forgetting"]["n"] == 8
    assert result["left_out"] == []


def test_measurements_that_cannot_be_compared_are_left_out_and_listed() -> None:
    others = Cell(identity="other tasks", by_task={"gcd/0": 1.0})
    result = retention(
        [stage("before", gcd=others, bits=[1.0]), stage("01", ("gcd",), gcd=[1.0, 1.0]), stage("02", gcd=[0.0, 1.0])],
        {},
    )
    assert result["families"]["gcd"]["scores"] == [None, 1.0, 0.5]
    assert mean(result["families"]["gcd"]["backward_transfer"]) == -0.5
    assert result["left_out"] == [
        "gcd after before: measured on other tasks, with other graders or with other settings",
        "bits after before: not measured after 02",
    ]


def test_stages_survive_json() -> None:
    assert [Stage.from_json(each.to_json()) for each in STAGES] == STAGES


def test_the_mean_of_estimates_recovers_their_variances() -> None:
    one = Estimate(mean=0.2, ci95=(0.1, 0.5), n=10)
    two = Estimate(mean=0.4, ci95=(0.0, 0.8), n=30)
    both = mean_of_estimates([one, two])
    assert (both.mean, both.n) == (pytest.approx(0.3), 40)
    # sqrt(0.1^2 + 0.4^2) / 2 below and sqrt(0.3^2 + 0.4^2) / 2 = 0.25 above.
    assert both.ci95 == pytest.approx((0.3 - math.sqrt(0.17) / 2, 0.55))
    assert mean_of_estimates([one]) == one
    assert mean_of_estimates([one, Estimate(mean=0.0, ci95=None, n=1)]).ci95 is None


def test_the_report_in_words() -> None:
    drop = estimate([0.25, 0.25])
    guard = {"sums": {"max_drop": 0.1, "drop": drop.to_json(), "is_exceeded": True}}
    retained = retention(STAGES, {}) | {"guard": guard}
    header, rows = retention_header(retained), retention_rows(retained)
    assert header == ["family", "trained in", "before", "01-sums", "02-gcd", "backward transfer", "forgetting"]
    assert rows[1] == ["gcd", "02-gcd", "0.000", "0.250", "1.000", "-", "-"]
    assert rows[0][5].startswith("-0.250 [")
    notes = retention_notes(retained)
    assert notes[1].startswith("forgetting: +0.250 [")
    assert notes[1].endswith("], mean over 2 families that this run was not the first to train")
    assert notes[2] == f"guard of sums: exceeded; drop {drop.text(signed=True)}, at most 0.1 allowed"
    assert guard_warnings(retained) == [
        f"evaluation.guard.sums=0.1: the score of the family is {drop.text()} lower after the run than before, over 2 "
        "tasks"
    ]
    assert guard_warnings(None) == []
