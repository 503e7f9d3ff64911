"""`rft compare`: compare what runs, adapters and base models do on the same tasks."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rft.evidence.compared import Compared
from rft.evidence.measured import OUT, PHASES

if TYPE_CHECKING:
    from rft.api.compare import Result


def compare(words: list[str]) -> int:
    """Print the comparison; return the exit code, 0."""
    from rft.api.compare import compare as compare_runs

    given = parser().parse_intermixed_args(words)
    result = compare_runs(
        *given.places,
        metrics=given.metric,
        phase=given.phase,
        pass_at=given.pass_at,
        html=given.html,
        report=given.json,
        out=given.out,
    )
    print_result(result, Console())
    return 0


def print_result(result: Result, console: Console) -> None:
    """Print a comparison: means and differences by metric, then the notes."""
    for one in result.compared:
        console.print(_means(one))
        console.print(_differences(one))
    for note in result.notes:
        console.print(Text(f"note: {note}"), soft_wrap=True)


def parser() -> argparse.ArgumentParser:
    """Return the options of the command."""
    parser = argparse.ArgumentParser(
        prog="rft compare",
        description="Compare what runs measured on the same held-out tasks: paired differences, intervals and tests.",
    )
    parser.add_argument(
        "places",
        nargs="+",
        metavar="[NAME=]PLACE",
        help="folders of rft train or rft evaluate, files like rollouts.jsonl, logs of lm-eval or inspect, a folder of "
        "runs that differ in seed, or adapters and base models, which are measured like the first run; keys of rft "
        "evaluate, such as sampler=transformers, change how",
    )
    parser.add_argument("--metric", action="append", default=[], help="reward, or a grader; repeatable; default: all")
    parser.add_argument("--phase", choices=PHASES, help="the measurement of each run; default: the one after training")
    parser.add_argument("--pass-at", type=int, action="append", default=[], metavar="K", help="also pass@K; repeatable")
    parser.add_argument("--out", default=OUT, metavar="FOLDER", help="keeps new measurements; default: %(default)s")
    parser.add_argument("--html", metavar="FILE", help="write the report as one HTML file")
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON")
    return parser


def _means(one: Compared) -> Table:
    table = Table(title=f"{one.metric}: {one.comparison.num_tasks} common tasks", title_justify="left", box=None)
    for header in ("", "mean [95%]", *(f"pass@{k}" for k in one.pass_at)):
        table.add_column(header)
    for name, value in one.comparison.means.items():
        table.add_row(Text(name), Text(value.text()), *(Text(own[name].text()) for own in one.pass_at.values()))
    return table


def _differences(one: Compared) -> Table:
    table = Table(box=None)
    for header in ("", f"difference [95%], by {one.unit}", "p", "test", ""):
        table.add_column(header)
    for own in one.tested:
        p_value = "" if own.adjusted is None else f"{own.adjusted:.4f}"
        difference = own.difference
        table.add_row(
            *map(Text, (difference.name, difference.estimate.text(signed=True), p_value, own.test, own.verdict))
        )
    return table
