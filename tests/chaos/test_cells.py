"""The table is whole: a cell or a reason for each combination, and a cell for each pair that can happen."""

from __future__ import annotations

import ast
import sys
from itertools import product

import pytest

from tests.chaos.cells import CELLS, KINDS, MOMENTS, TARGETS, Cell, pairs, reason, why_none
from tests.chaos.harness import INSIDE, ROOT

ALL = list(product(KINDS, TARGETS, MOMENTS))


def test_there_are_enough_cells() -> None:
    assert len(ALL) == 792
    assert len(CELLS) == len(set(CELLS)) >= 120


def test_every_pair_that_can_happen_has_a_cell() -> None:
    possible = {pair for combination in ALL if why_none(*combination) is None for pair in pairs(*combination)}
    covered = {pair for cell in CELLS for pair in pairs(cell.kind, cell.target, cell.moment)}
    assert possible == covered


def test_every_combination_is_a_cell_or_has_a_reason() -> None:
    without = [combination for combination in ALL if (reason(*combination) is None) != (Cell(*combination) in CELLS)]
    assert without == []
    assert not [cell for cell in CELLS if why_none(cell.kind, cell.target, cell.moment)]


def test_reasons() -> None:
    assert reason("lying weights", "driver", "loading") == "it holds no weights"
    assert reason("torn file", "learner", "starting") == "no checkpoint and no line is written"
    assert reason("kill", "grader worker", "idle") == "it starts for the first completion"
    assert reason("kill", "learner", "learning") is None


def test_what_must_happen() -> None:
    lost = Cell("kill", "sampler", "sampling")
    assert (lost.ending, lost.exit_codes, lost.restarts, lost.message) == ("goes on", (0,), "sampler", "")
    slow = Cell("slow", "raylet", "learning")
    assert (slow.ending, slow.restarts) == ("goes on", None)
    driver = Cell("kill", "driver", "learning")
    assert (driver.ending, driver.exit_codes, driver.message) == ("resumes", (-9,), "")
    head = Cell("freeze", "head", "sampling")
    assert (head.ending, head.exit_codes, head.message) == ("resumes", (69,), "rft: .*resume")
    lie = Cell("lying weights", "sampler", "proving")
    assert (lie.ending, lie.restarts) == ("goes on", "sampler")


def test_the_marks_of_moments_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(INSIDE))
    import fault_plan

    marks = fault_plan.MARKS
    for name in ("fault_plan", "lies", "strikes"):
        sys.modules.pop(name)
    for module, (class_name, _, methods) in marks.items():
        tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text())
        [marked] = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_name]
        defined = {node.name for node in marked.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert methods.keys() <= defined, module
