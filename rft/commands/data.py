"""`rft data`: look at task files, clean them, and split them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rft.commands.actions import Actions, run_action
from rft.config.data_files import DataCheckConfig, DataCleanConfig, DataFilesConfig, DataSplitConfig

MAX_PLACES = 5
"""Places of a finding to print; all are counted."""
USAGE = """\
usage: rft data check train=<file> [validation=<file>] [test=<file>] [report=<file>.json]
       rft data stats train=<file> ...
       rft data clean train=<file> ... out=<folder>
       rft data split data=<file> out=<folder> [test_share=0.1] [group_by=<column>]

{keys}
docs/data_hygiene.md explains all of them.
"""


def data(words: list[str]) -> int:
    """Run an action; return the exit code: 1 if `check` finds an error, and otherwise 0."""
    return run_action("data", words, ACTIONS, USAGE)


def _check(config: DataCheckConfig) -> int:
    from rft.api.data_files import check_data

    findings = check_data(config)
    for finding in findings:
        print(f"{finding.level:<8} {finding.name}: {finding.message}")
        print("".join(f"           {place}\n" for place in _some(finding.places)), end="")
    if not findings:
        print("nothing found")
    return int(any(finding.level == "error" for finding in findings))


def _some(places: Sequence[str]) -> list[str]:
    more = len(places) - MAX_PLACES
    return [*places[:MAX_PLACES], *([f"and {more:,} more"] if more > 0 else [])]


def _stats(config: DataFilesConfig) -> int:
    from rft.api.data_files import data_statistics

    numbers = data_statistics(config)
    for split, own in numbers["splits"].items():
        print(f"{split}: {own['rows']:,} rows, {own['prompts']:,} prompts, {own['answers']:,} answers")
        for name in ("prompt", "answer"):
            if lengths := own[name]:
                parts = ", ".join(f"{part} {count:,}" for part, count in lengths.items())
                print(f"  {name}, {numbers['unit']}: {parts}")
        for label, count in own["labels"].items():
            print(f"  {count / own['rows']:7.1%} {label}")
    if numbers["unreadable"]:
        print(f"{numbers['unreadable']:,} rows cannot be used; rft data check names them")
    return 0


def _clean(config: DataCleanConfig) -> int:
    from rft.api.data_files import clean_data

    _print_card(config.out, clean_data(config))
    return 0


def _split(config: DataSplitConfig) -> int:
    from rft.api.data_files import split_data

    _print_card(config.out, split_data(config))
    return 0


def _print_card(out: str, card: Mapping[str, Any]) -> None:
    for name, file in card["files"].items():
        print(f"{out}/{name}: {file['rows']:,} rows")
    if card["dropped"]["rows"]:
        splits = ", ".join(f"{count:,} of {split}" for split, count in card["dropped"]["splits"].items())
        print(f"{out}/dropped.jsonl: {card['dropped']['rows']:,} rows ({splits})")
        print("".join(f"  {count:,} {reason}\n" for reason, count in card["dropped"]["reasons"].items()), end="")
    if card["masked"]:
        print("masked: " + ", ".join(f"{count:,} {kind}" for kind, count in card["masked"].items()))


ACTIONS: Actions = {
    "check": (DataCheckConfig, _check),
    "stats": (DataFilesConfig, _stats),
    "clean": (DataCleanConfig, _clean),
    "split": (DataSplitConfig, _split),
}
"""The schema and the function of each action."""
