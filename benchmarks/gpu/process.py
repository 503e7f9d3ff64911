"""The process of one part: `python -m gpu.process <part> <work folder> <result file> [--dry-run]`."""

from __future__ import annotations

import argparse
import sys
import traceback
from pathlib import Path
from pkgutil import resolve_name

from gpu.bench import Bench
from gpu.plans import Part, part_named
from gpu.report import Notes, NotRun, Outcome, Result


def run_here(part: Part, bench: Bench) -> Result:
    """Run a part in this process. An error of the part is its result."""
    notes = Notes()
    outcome, reason = Outcome.PASSED, ""
    try:
        resolve_name(part.target)(bench, notes, **part.options)
    except NotRun as not_run:
        outcome, reason = Outcome.NOT_RUN, str(not_run)
    except Exception as error:
        traceback.print_exc()
        outcome, reason = Outcome.FAILED, f"{type(error).__name__}: {error}"
    else:
        if broken := [name for name, holds in notes.checks.items() if not holds]:
            outcome, reason = Outcome.FAILED, f"does not hold: {', '.join(broken)}"
    return Result(part=part.name, outcome=outcome, reason=reason, checks=notes.checks, figures=notes.figures)


def main() -> None:
    """Run the part that the command line names, and write its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part")
    parser.add_argument("work", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--dry-run", action="store_true")
    arguments = parser.parse_args()
    result = run_here(part_named(arguments.part), Bench(arguments.work, dry=arguments.dry_run))
    arguments.result.write_text(result.line(), encoding="utf-8")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
