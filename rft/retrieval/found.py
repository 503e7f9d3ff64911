"""Passages that were found, by query: kept in a file, so that no query is searched twice, and in the run folder."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from rft.errors import UsageError
from rft.reliability.durable import append
from rft.retrieval.passages import Passage, Query

Found = dict[str, list[Passage]]
"""Passages by `key_of` their query."""


def key_of(query: Query, num_wanted: int) -> str:
    """Return 32 hexadecimal digits that stand for a search."""
    content = json.dumps([query.text, dict(query.filters), num_wanted], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def to_lines(found: Mapping[str, list[Passage]]) -> Iterator[str]:
    """Yield a line for each search."""
    for key, passages in found.items():
        yield json.dumps({"key": key, "passages": [asdict(passage) for passage in passages]}) + "\n"


def read_found(file: Path) -> Found:
    """Return the passages in a file; none if there is no file. An incomplete last line, of a crash, is skipped.

    Raises:
        UsageError: Another line is damaged.
    """
    return found_in(file.read_text(encoding="utf-8"), str(file)) if file.is_file() else {}


def found_in(text: str, file: str) -> Found:
    """Return the passages in the content of a file, like `read_found`.

    Raises:
        UsageError: A line other than the last is damaged.
    """
    found: Found = {}
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        if number == len(lines) and not line.endswith("\n"):
            continue
        try:
            record = json.loads(line)
            if "fingerprint" not in record:  # the first line of a run's record has it
                found[record["key"]] = [Passage(**passage) for passage in record["passages"]]
        except (ValueError, TypeError, KeyError) as error:
            raise UsageError("passages", [f"{file}:{number} is damaged: {error}; remove the file"]) from error
    return found


def keep(file: Path, found: Mapping[str, list[Passage]]) -> None:
    """Append searches to a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    _drop_incomplete_line(file)
    append(file, "".join(to_lines(found)).encode())


def _drop_incomplete_line(file: Path) -> None:
    """Cut off what a crash left of a line, so that the next one does not continue it."""
    if file.is_file() and not (content := file.read_bytes()).endswith(b"\n"):
        os.truncate(file, content.rfind(b"\n") + 1)
