"""The report of an audit in the terminal: failures first, each with its reason and the completions that show it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rft.wording import plural

COMPLETION_CHARS = 160
NUM_EXAMPLES = 2
MARKS = {
    "failed": ("x", "red"),
    "warned": ("!", "yellow"),
    "inconclusive": ("?", "yellow"),
    "passed": ("+", "green"),
    "not applicable": ("-", "dim"),
}


def print_report(console: Console, report: Mapping[str, Any], *, folder: Path, page: Path) -> None:
    """Print an audit.

    Args:
        console: The console.
        report: The content of audit.json. Texts of tasks and completions are not trusted: their markup is not
            interpreted, and their control characters are escaped.
        folder: The folder of the report.
        page: The HTML page.
    """
    for probe in report["probes"]:
        if probe["result"] in ("failed", "warned", "inconclusive"):
            _print_finding(console, probe)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("", "probe", "finding"):
        table.add_column(column, overflow="fold")
    for probe in report["probes"]:
        mark, style = MARKS[probe["result"]]
        message = Text(visible(probe["message"]), style="dim" if probe["result"] == "not applicable" else "")
        table.add_row(Text(mark, style=style), Text(probe["name"], style=style), message)
    console.print(table)
    counts = ", ".join(f"{count} {result}" for result, count in report["counts"].items() if count)
    style = {"failed": "bold red", "inconclusive": "bold yellow"}.get(report["verdict"], "bold green")
    done = (
        f"{plural(report['graded'], 'completion')} graded"
        if "graded" in report
        else f"{plural(report['episodes'], 'episode')} played"
    )
    line = f"{report['verdict']}: {counts}; {done} in {report['seconds']:.1f} s"
    console.print(Text(line, style=style), soft_wrap=True)
    console.print(Text(f"report: {folder}; page for colleagues: {page}"), soft_wrap=True)


def visible(text: str) -> str:
    """Replace control characters by Python's escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def _print_finding(console: Console, probe: Mapping[str, Any]) -> None:
    mark, style = MARKS[probe["result"]]
    console.print(Text(f"{mark} {probe['result']}: {probe['name']}", style=f"bold {style}"))
    for label, text in (("", probe["message"]), ("reason: ", probe["why"]), ("remedy: ", probe["remedy"])):
        if probe["result"] == "failed" or not label:
            console.print(Text(f"  {label}{visible(text)}"), soft_wrap=True)
    for example in probe["examples"][:NUM_EXAMPLES]:
        if "turns" in example:
            _print_episode(console, example)
        else:
            _print_completion(console, example)
    console.print()


def _print_completion(console: Console, example: Mapping[str, Any]) -> None:
    reward = "no reward" if example["reward"] is None else f"reward {example['reward']:g}"
    console.print(Text(f"    {reward} for {_shortened(example['completion'])}", style="bold"), soft_wrap=True)
    reference = "" if example["reference"] is None else f", where the reference is {example['reference'][:80]!r}"
    console.print(Text(f"      {visible(example['note'] + reference)}"), soft_wrap=True)
    for name, score in example["scores"].items():
        if score["reason"]:
            console.print(Text(f"      {name}: {score['status']}: {visible(score['reason'])}"), soft_wrap=True)


def _print_episode(console: Console, example: Mapping[str, Any]) -> None:
    score = example["status"] if example["score"] is None else f"score {example['score']:g}"
    head = f"    {score} for the policy '{example['policy']}', task {visible(example['task'])}"
    console.print(Text(head, style="bold"), soft_wrap=True)
    for turn in example["turns"]:
        heard = f"heard {_shortened(turn['heard'])}, " if turn["heard"] else ""
        console.print(Text(f"      {heard}said {_shortened(turn['reply'])}"), soft_wrap=True)
    if (more := example["num_turns"] - len(example["turns"])) > 0:
        console.print(Text(f"      and {plural(more, 'more turn')}"))
    if example["reason"]:
        console.print(Text(f"      {visible(example['reason'])}"), soft_wrap=True)


def _shortened(text: str) -> str:
    """Return Python's form of a text, without its middle if it is long."""
    if len(text) > COMPLETION_CHARS:
        text = f"{text[: COMPLETION_CHARS * 2 // 3]} ... {text[-COMPLETION_CHARS // 3 :]}"
    return visible(repr(text))
