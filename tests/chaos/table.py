"""Writes the verdicts of the cells as a table of Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from tests.chaos.cells import CELLS, KINDS, MOMENTS, TARGETS, VARIANTS, Cell, why_none

TITLE = "## Faults"
INTRODUCTION = """\
`make chaos`: each cell is one training (7 steps of 2 prompts x 4 completions of the embedded model; Ray, Transformers
or vLLM, TRL's learner) in which one fault strikes a target at a moment. `tests/chaos/cells.py` states the demands:
whether the command goes on or ends, its exit code and message, and how far the result must equal that of the
undisturbed run: bit by bit, if nothing else is stated. No process, port, shared memory or temporary folder may be left
10 s after the end. A number is the seconds of a passed cell, with all its commands. `F` is a failed cell, and `-` a
combination that cannot happen. An empty field is a combination whose three pairs have other cells: `python -m
tests.chaos --list`."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a cell did otherwise than demanded."""

    problems: tuple[str, ...]
    """Empty for a passed cell."""
    wall_s: float
    """Seconds of all commands, with the wait for what is left over."""
    codes: tuple[int, ...]
    """Exit codes of the commands."""

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return a verdict from `to_json`."""
        return cls(tuple(values["problems"]), values["wall_s"], tuple(values["codes"]))


def table(verdicts: Mapping[Cell, Verdict], *, num_cells: int, machine: str = "") -> str:
    """Return the section of the results: the table, the variants, and each failure in words."""
    passed = sum(not verdict.problems for verdict in verdicts.values())
    minutes = sum(verdict.wall_s for verdict in verdicts.values()) / 60
    lines = [TITLE, "", INTRODUCTION, ""]
    lines += [f"{passed} of {num_cells} cells passed, {len(verdicts) - passed} failed, "
              f"{num_cells - len(verdicts)} were not run; {minutes:.0f} minutes.{machine}", ""]  # fmt: skip
    lines += ["| target | moment | " + " | ".join(KINDS) + " |", "| --- | --- |" + " --- |" * len(KINDS)]
    for target in TARGETS:
        for moment in MOMENTS:
            fields = [_field(Cell(kind, target, moment), verdicts) for kind in KINDS]
            lines.append(f"| {target} | {moment} | " + " | ".join(fields) + " |")
    lines += ["", "| variant | equal | result |", "| --- | --- | --- |"]
    lines += [f"| {cell.name} | {cell.equality} | {_field(cell, verdicts)} |" for cell in VARIANTS]
    if failed := [(cell, verdict) for cell, verdict in verdicts.items() if verdict.problems]:
        lines += ["", "Failed cells:", ""]
        lines += [f"- {cell.name}: {'; '.join(verdict.problems)}" for cell, verdict in failed]
    return "\n".join(lines) + "\n"


def _field(cell: Cell, verdicts: Mapping[Cell, Verdict]) -> str:
    if (verdict := verdicts.get(cell)) is not None:
        return "F" if verdict.problems else f"{verdict.wall_s:.0f}"
    if cell in CELLS or cell in VARIANTS:
        return "not run"
    return "-" if why_none(cell.kind, cell.target, cell.moment) else ""


def replace_section(file: Path, section: str) -> None:
    """Replace the section of a Markdown file that has the same title, or append it."""
    text = file.read_text(encoding="utf-8")
    pattern = re.compile(rf"^{re.escape(TITLE)}\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)
    text, was_there = pattern.subn(lambda _: section + "\n", text)
    if not was_there:
        text = text.rstrip("\n") + "\n\n" + section
    file.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
