"""Finds rewards for citations that a wrong answer earns, too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rft.grading.cited_answers import ABOUT_PASSAGES

Entries = Mapping[str, Mapping[str, Any]]


def paid_alone(graders: Entries) -> list[str]:
    """Return a warning if graders of citations pay for answers that are wrong.

    Args:
        graders: The graders' entries, valid ones, by name.
    """
    alone = list(_alone(graders, "graders"))
    if not alone:
        return []
    verb = "pays" if len(alone) == 1 else "pay"
    return [
        f"{', '.join(alone)} {verb} for answers that are wrong, because the reward adds this up; multiply it by a "
        "grader of the answer: graders.main.use=composite graders.main.how=grounded, with both in graders.main.of"
    ]


def _alone(entries: Entries, key: str) -> Iterator[str]:
    """Yield the keys of entries that are added up, and that a wrong answer may earn."""
    for name, entry in entries.items():
        if entry.get("weight", 1.0) == 0:
            continue
        path = f"{key}.{name}"
        if entry.get("use") in ABOUT_PASSAGES:
            yield f"{path} ({entry['use']})"
        elif entry.get("use") == "composite":
            yield from _alone_in(entry, path)


def _alone_in(composite: Mapping[str, Any], path: str) -> Iterator[str]:
    children = composite.get("of") or {}
    alone = {name: list(_alone({name: child}, f"{path}.of")) for name, child in children.items()}
    gate = composite.get("gate")
    if isinstance(gate, Mapping) and not list(_alone({"gate": gate}, path)):
        return  # only a right answer opens it
    if composite.get("how") in ("product", "min", "grounded") and not all(alone.values()):
        return  # another factor asks for a right answer
    for keys in alone.values():
        yield from keys
