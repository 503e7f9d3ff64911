"""The result of a sweep: `sweep.json`, the winner's adapter, and a table."""

from __future__ import annotations

import shlex
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rft.imports import missing_packages
from rft.reliability.durable import writing
from rft.run_folder.recorder import write_json
from rft.sweep.outcome import Direction, Outcome, ranked, winner
from rft.wording import plural

SWEEP = "sweep.json"
WINNER = "winner"


def finish_sweep(
    folder: Path,
    outcomes: Sequence[Outcome],
    *,
    searched: Sequence[str],
    wall_s: float,
    console: Console,
    direction: Direction = "maximize",
    stages: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """Write `sweep.json`, the plots and the winner's adapter, and print the table.

    Args:
        folder: The sweep folder.
        outcomes: Outcomes of the trials, by number.
        searched: The keys that differ between trials.
        wall_s: Duration of the sweep in seconds.
        console: Output of the table.
        direction: Whether higher or lower scores are better.
        stages: Entries of the stages of a pipeline that ran before the trials.

    Returns:
        The content of sweep.json.

    Raises:
        WriteError: The disk is full or cannot be written.
    """
    best = winner(outcomes, direction)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    sweep: dict[str, Any] = {
        "direction": direction,
        "searched": list(searched),
        "counts": dict(Counter(outcome.status for outcome in outcomes)),
        "wall_s": wall_s,
        "winner": None if best is None else _save_winner(folder, best),
        "trials": [outcome.to_json() for outcome in outcomes],
    } | ({"stages": list(stages)} if stages else {})
    write_json(folder / SWEEP, sweep)
    plots: Sequence[Path] = ()
    if problem := missing_packages(f"{folder}/plots", "matplotlib"):
        console.print(Text(f"warning: {problem}", style="yellow"), soft_wrap=True)
    else:
        from rft.sweep.plots import plot_sweep

        plots = plot_sweep(folder, ranked(outcomes, direction), searched)
    _print(console, folder, sweep, ranked(outcomes, direction), plots)
    return sweep


def _save_winner(folder: Path, best: Outcome) -> dict[str, Any]:
    source, copy, model = best.folder / "adapter", folder / WINNER, best.folder / "model"
    with writing(copy):
        shutil.rmtree(copy, ignore_errors=True)
        if source.is_dir():  # whole models are large and stay in place
            shutil.copytree(source, copy)
    return {
        "number": best.number,
        "overrides": list(best.overrides),
        "run": str(best.folder),
        "adapter": str(copy) if source.is_dir() else None,
        "model": str(model) if model.is_dir() else None,
        "command": shlex.join(["rft", "train", *best.overrides]),
    }


def _print(
    console: Console, folder: Path, sweep: dict[str, Any], best_first: Sequence[Outcome], plots: Sequence[Path]
) -> None:
    counts = ", ".join(f"{number} {status}" for status, number in sweep["counts"].items())
    console.print()
    console.print(
        Text(f"{plural(len(best_first), 'trial')} in {sweep['wall_s']:.0f} s: {counts or 'none'}", style="bold")
    )
    console.print(_table(best_first, sweep["searched"]))
    for outcome in best_first:
        if outcome.error:
            first, *rest = outcome.error.splitlines()
            more = f" ({len(rest)} more lines in {outcome.folder / 'trial.json'})" if rest else ""
            console.print(Text(f"trial {outcome.number} failed: {first}{more}", style="red"), soft_wrap=True)
    best = sweep["winner"]
    if best is None:
        console.print(Text("No trial has a held-out score, so there is no winner."))
    else:
        console.print(Text(f"\nThe winner is trial {best['number']}. The same again:", style="bold"))
        console.print(Text(f"  {best['command']}"), soft_wrap=True)
        console.print(
            Text("The best of several trials scores too high by chance. Measure it on other tasks.", style="dim"),
            soft_wrap=True,
        )
    files = [("sweep", folder / SWEEP), *((name, best and best[name]) for name in ("adapter", "model"))]
    console.print(Text("\nFiles", style="bold"))
    for name, path in [*files, *((plot.stem, plot) for plot in plots)]:
        if path:
            console.print(Text(f"  {name:<8}  {path}"), soft_wrap=True)


def _table(best_first: Sequence[Outcome], searched: Sequence[str]) -> Table:
    table = Table(box=box.ROUNDED)
    table.add_column("trial", justify="right")
    for key in searched:
        table.add_column(_short(key, searched), overflow="fold")
    table.add_column("held-out", justify="right")
    table.add_column("95% interval", justify="right", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    for outcome in best_first:
        settings = outcome.settings(searched)
        mean, interval = outcome.score.text().split(" ", 1) if outcome.score else ("-", "-")
        table.add_row(
            str(outcome.number),
            *(Text(settings.get(key, "-")) for key in searched),
            mean,
            Text(interval),
            f"{outcome.wall_s:.0f} s",
            outcome.status,
            style="" if outcome.status == "finished" else "dim",
        )
    return table


def _short(key: str, others: Sequence[str]) -> str:
    """Return the last part of a key, such as `learning_rate`, if it is unique."""
    last = key.rpartition(".")[2]
    return last if sum(other.rpartition(".")[2] == last for other in others) == 1 else key
