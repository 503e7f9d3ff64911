"""Rows of a local task file: JSON lines, Parquet or CSV.

A row that cannot be read becomes a `Flaw` and reading goes on, so that `rft.data.tasks` reports all of them at once.
What is wrong with a file as a whole raises a `DataError`.
"""

from __future__ import annotations

import csv
import difflib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rft.errors import DataError

SUFFIXES = (".jsonl", ".json", ".parquet", ".csv")
"""What task files end in; both of the first two hold JSON lines."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it was read; nothing about it has been checked.

    Example:
        Row("tasks.jsonl:17", {"prompt": "2 + 2 = ?", "answer": "4"})
    """

    where: str
    """Source and line (or row), from 1."""
    content: Any
    """What the row holds; an object if all is well."""


@dataclass(frozen=True, slots=True)
class Flaw:
    """A row that cannot be read, or cannot become a task.

    Example:
        Flaw("tasks.jsonl:20", "invalid JSON: Expecting ',' delimiter at column 14")
    """

    where: str
    """Source and line (or row), from 1."""
    problem: str
    """What is wrong and what to do."""


def read_file(path: Path, *, name: str, key: str) -> Iterator[Row | Flaw]:
    """Read a file row by row.

    Args:
        path: The file.
        name: What to call it in messages, as `tasks.jsonl`.
        key: The configuration key that names it, for messages, as `data.train`.

    Raises:
        DataError: The file is missing, of no known kind, or unreadable as a whole.
    """
    if not os.path.exists(path):  # Path.exists raises where a folder above forbids to look
        raise data_error(f"{key}={name}: no file at {path.absolute()}{_near(path)}")
    if path.is_dir():
        files = sorted(file.name for file in path.iterdir() if file.suffix in SUFFIXES)
        inside = f"name one of the files in it: {', '.join(files[:10])}" if files else "it holds no task file"
        raise data_error(f"{key}={name} is a folder; {inside}")
    readers = {".jsonl": _read_json_lines, ".json": _read_json_lines, ".csv": _read_csv, ".parquet": _read_parquet}
    if path.suffix not in readers:
        raise data_error(f"{key}={name} ends in '{path.suffix}'; convert or rename it to {', '.join(SUFFIXES)}")
    try:
        yield from readers[path.suffix](path, name)
    except (OSError, ValueError, csv.Error) as error:
        raise data_error(f"{key}={name}: {path.absolute()} cannot be read: {root_cause(error)}") from error


def data_error(problem: str) -> DataError:
    """The error for one problem with task files."""
    return DataError("task files", [problem])


def root_cause(error: BaseException) -> str:
    """The first line of what the innermost error said; libraries wrap theirs in sentences that say nothing."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _near(path: Path) -> str:
    if not os.access(path.parent, os.R_OK | os.X_OK):
        return f"; the folder {path.parent.absolute()} does not exist either, or you may not look into it"
    names = [file.name for file in path.parent.iterdir() if file.suffix in SUFFIXES]
    nearest = difflib.get_close_matches(path.name, names, n=3)
    return f"; in the same folder there is {', '.join(nearest)}" if nearest else ""


def _read_json_lines(path: Path, name: str) -> Iterator[Row | Flaw]:
    # Not through `datasets`: Arrow merges the columns of all rows, fills in nulls where a row has none, and cannot say
    # which line is at fault. Lines are split as bytes, since text lines would also end at U+2028 and its like.
    lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    if next((line.strip() for line in lines if line.strip()), b"") in (b"[", b"{"):
        raise ValueError(
            "its JSON is spread over several lines; put each task on a line of its own, for a list with: "
            f"jq -c '.[]' {path.name} > {path.stem}.lines.jsonl"
        )
    return (_parse(line, f"{name}:{number}") for number, line in enumerate(lines, start=1) if line.strip())


def _parse(line: bytes, where: str) -> Row | Flaw:
    try:
        return Row(where, json.loads(line.decode("utf-8")))
    except UnicodeDecodeError as error:
        return Flaw(where, f"not UTF-8: byte 0x{line[error.start]:02x} at column {error.start + 1}; save it as UTF-8")
    except json.JSONDecodeError as error:
        what = error.msg.removesuffix(" starting at")
        return Flaw(where, f"invalid JSON: {what} at column {error.colno}")
    except (ValueError, RecursionError) as error:
        return Flaw(where, f"invalid JSON: {error}")


def _read_csv(path: Path, name: str) -> Iterator[Row | Flaw]:
    # Not through `datasets` either: it guesses types, and makes 7 of the answer "007" and nothing of the answer "NA".
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        header = next(reader, [])
        if twice := sorted({column for column in header if header.count(column) > 1}):
            raise ValueError(f"several columns are named {', '.join(twice)}; rename all but one")
        line = reader.line_num + 1
        for cells in reader:
            where = f"{name}:{line}"
            line = reader.line_num + 1
            if cells and len(cells) != len(header):
                yield Flaw(
                    where, f"cells: {len(cells)}, columns in the first line: {len(header)}; quote texts with commas"
                )
            elif cells:
                yield Row(where, dict(zip(header, cells, strict=True)))


def _read_parquet(path: Path, name: str) -> Iterator[Row | Flaw]:
    from datasets import Dataset
    from datasets.exceptions import DatasetGenerationError

    try:
        # All rows are read at once, so the copy that `datasets` keeps for next time would only fill the disk.
        with tempfile.TemporaryDirectory() as cache:
            rows = Dataset.from_parquet(str(path), cache_dir=cache, keep_in_memory=True)
    except DatasetGenerationError as error:
        raise ValueError(root_cause(error)) from error
    return (Row(f"{name} row {number}", row) for number, row in enumerate(rows, start=1))
