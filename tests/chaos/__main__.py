"""Runs the cells of the table, and writes what happened into benchmarks/RESULTS.md.

    python -m tests.chaos                           # all cells: `make chaos`
    python -m tests.chaos --only "kill learner"     # cells whose name contains a pattern; writes no table
    python -m tests.chaos --list                    # what must happen in each cell, and why others are none

Results are kept in `--folder`, so that a run that was interrupted goes on with the cells that are left.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import shutil
import sys
import time
from itertools import product
from pathlib import Path

from tests.chaos.cells import CELLS, KINDS, MOMENTS, TARGETS, VARIANTS, Cell, reason
from tests.chaos.harness import ROOT, Undisturbed, faults_of, train, words_of
from tests.chaos.oracle import judge
from tests.chaos.table import Verdict, replace_section, table

RESULTS = ROOT / "benchmarks" / "RESULTS.md"
VERDICTS = "verdicts.jsonl"


def main() -> None:
    """Run the cells; exit with 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="pattern in the names of the cells to run")
    parser.add_argument("--list", action="store_true", help="print what must happen, or why not")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/rft-chaos"), help="keeps runs and verdicts")
    parser.add_argument("--minutes", type=float, default=120.0, help="no cell starts later than this")
    parser.add_argument("--again", action="store_true", help="run failed cells again")
    arguments = parser.parse_args()
    if arguments.list:
        for cell in (*itertools.starmap(Cell, product(KINDS, TARGETS, MOMENTS)), *VARIANTS):
            why = None if cell in VARIANTS else reason(cell.kind, cell.target, cell.moment)
            print(f"{cell.name}: {f'no cell: {why}' if why else cell.outcome}")
        return
    cells = [cell for cell in (*CELLS, *VARIANTS) if re.search(arguments.only, cell.name)]
    arguments.folder.mkdir(parents=True, exist_ok=True)
    verdicts = run_cells(cells, arguments.folder, arguments.minutes, again=arguments.again)
    failed = [verdict for verdict in verdicts.values() if verdict.problems]
    print(f"{len(verdicts)} of {len(cells)} cells ran, {len(failed)} failed")
    if not arguments.only:
        replace_section(RESULTS, table(verdicts, num_cells=len(cells)))
    sys.exit(bool(failed))


def run_cells(cells: list[Cell], folder: Path, minutes: float, *, again: bool) -> dict[Cell, Verdict]:
    """Run the cells that have no verdict yet; return the verdicts of all that have one."""
    known = _known(folder / VERDICTS)
    undisturbed = Undisturbed(folder)
    began = time.monotonic()
    for cell in cells:
        if (verdict := known.get(cell.name)) and not (again and verdict.problems):
            continue
        if time.monotonic() - began > 60 * minutes:
            break
        expected = undisturbed.run(words_of(cell))
        place = folder / re.sub(r"\W+", "-", cell.name)
        shutil.rmtree(place, ignore_errors=True)
        started = time.monotonic()
        outcome = train(words_of(cell), place, faults_of(cell))
        problems = judge(cell, outcome, expected)
        verdict = Verdict(tuple(problems), time.monotonic() - started, tuple(a.code for a in outcome.attempts))
        known[cell.name] = verdict
        with (folder / VERDICTS).open("a") as file:
            file.write(json.dumps({"cell": cell.name, **verdict.to_json()}) + "\n")
        print(f"{'FAILED' if problems else 'passed'} in {verdict.wall_s:.0f} s: {cell.name}", flush=True)
        for problem in problems:
            print(f"    {problem}", flush=True)
        if problems:
            (place / "output.txt").write_text("\n\n=== next command\n\n".join(a.output for a in outcome.attempts))
        else:
            shutil.rmtree(place)
    return {cell: known[cell.name] for cell in cells if cell.name in known}


def _known(file: Path) -> dict[str, Verdict]:
    lines = file.read_text().splitlines() if file.exists() else []
    return {line.pop("cell"): Verdict.from_json(line) for line in map(json.loads, lines)}


if __name__ == "__main__":
    main()
