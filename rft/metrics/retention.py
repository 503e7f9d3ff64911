"""Retention: the scores of task families over the stages of a training, and how much a later stage has forgotten.

The matrix R[s][i] holds the mean score of family i after stage s, on the same tasks with the same graders. For a last
stage L and a family that an earlier stage was the first to train, or that no stage trained:

- backward transfer is R[L][i] - R[s][i] for the stage s that trained the family first (Lopez-Paz and Ranzato, arXiv
  1706.08840);
- forgetting is max R[s][i] over the stages s before L, minus R[L][i] (Chaudhry et al., arXiv 1801.10112). With several
  earlier stages, the maximum also selects favourable noise, so small values may be no forgetting.

Both are paired by task. A stage is left out of a family's comparison if it measured other tasks or graders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from rft.metrics.intervals import UNIT, Estimate, mean_of_estimates, paired_difference


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """The measurement of a family after a stage.

    Example:
        Cell(identity="3f1c09d2a7b45e68", by_task={"gcd/0": 1.0, "gcd/1": 0.0})
    """

    identity: str
    """Hash of everything besides the policy that decides the scores, such as tasks and graders."""
    by_task: Mapping[str, float]
    """Score by task id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stage of a training: one run, or the model before the first.

    Example:
        Stage(name="01-sft", fingerprint="9b2e51c07d44a1f0", trained=("sums",), cells={"sums": Cell(...), ...})
    """

    name: str
    """Name of the run folder, or `before` for the model before the first run."""
    fingerprint: str
    """Fingerprint of the policy that was measured."""
    trained: tuple[str, ...]
    """The families that the stage trained, without those that it only replayed."""
    cells: Mapping[str, Cell]
    """Measurements by family."""

    def to_json(self) -> dict[str, Any]:
        """Return the stage for retention.json."""
        cells = {name: {"identity": cell.identity, "by_task": dict(cell.by_task)} for name, cell in self.cells.items()}
        return {"name": self.name, "fingerprint": self.fingerprint, "trained": list(self.trained), "cells": cells}

    @classmethod
    def from_json(cls, obj: Mapping[str, Any]) -> Stage:
        """Read the result of `to_json`."""
        return cls(
            name=obj["name"],
            fingerprint=obj["fingerprint"],
            trained=tuple(obj["trained"]),
            cells={name: Cell(**cell) for name, cell in obj["cells"].items()},
        )


def retention(stages: Sequence[Stage], bounds: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
    """Return `retention` of summary.json.

    Args:
        stages: The stages in order; the last one is the run.
        bounds: Lowest and highest possible score of each family that the last stage measured.

    Returns:
        `stages`: their names; `families`: for each family `scores` (one mean for each stage, null without a comparable
        measurement), `trained_in`, `backward_transfer` and `forgetting`; the means of the last two over families; and
        `left_out`, sentences about measurements that cannot be compared.
    """
    last = stages[-1]
    families: dict[str, dict[str, Any]] = {}
    left_out: list[str] = []
    for name, cell in last.cells.items():
        comparable = [_comparable(stage, name, cell) for stage in stages]
        left_out += [
            f"{name} after {stage.name}: measured on other tasks, with other graders or with other settings"
            for stage, known in zip(stages, comparable, strict=True)
            if known is None and name in stage.cells
        ]
        families[name] = _of_family(name, stages, comparable, bounds.get(name, UNIT))
    left_out += [
        f"{name} after {stage.name}: not measured after {last.name}"
        for stage in stages
        for name in stage.cells
        if name not in last.cells
    ]
    return {
        "stages": [stage.name for stage in stages],
        "families": families,
        **{key: _mean(families, key) for key in ("backward_transfer", "forgetting")},
        "left_out": left_out,
    }


def _comparable(stage: Stage, name: str, cell: Cell) -> Cell | None:
    """Return a family's measurement after a stage, if it can be compared with a later one."""
    known = stage.cells.get(name)
    is_same = known is not None and known.identity == cell.identity and known.by_task.keys() & cell.by_task.keys()
    return known if is_same else None


def _of_family(
    name: str, stages: Sequence[Stage], cells: Sequence[Cell | None], bounds: tuple[float, float]
) -> dict[str, Any]:
    """Return the results of one family; `cells` has one entry for each stage."""
    *earlier, last = cells
    assert last is not None  # only families that the last stage measured
    trained = next((number for number, stage in enumerate(stages) if name in stage.trained), None)
    is_new = trained == len(stages) - 1
    transfer = forgetting = None
    if trained is not None and not is_new and (learned := earlier[trained]) is not None:
        transfer = paired_difference(learned.by_task, last.by_task, bounds=bounds)
    known = [cell for cell in earlier if cell is not None]
    if known and not is_new:
        best = max(known, key=_score)
        forgetting = paired_difference(last.by_task, best.by_task, bounds=bounds)
    return {
        "trained_in": None if trained is None else stages[trained].name,
        "scores": [None if cell is None else _score(cell) for cell in cells],
        "backward_transfer": transfer.to_json() if transfer else None,
        "forgetting": forgetting.to_json() if forgetting else None,
    }


def _score(cell: Cell) -> float:
    return fmean(cell.by_task.values())


def _mean(families: Mapping[str, Mapping[str, Any]], key: str) -> dict[str, Any] | None:
    """Return the mean of a result over the families that have it."""
    known = [Estimate.from_json(family[key]) for family in families.values() if family[key]]
    return mean_of_estimates(known).to_json() if known else None
