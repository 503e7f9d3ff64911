"""Reads rows of a local task file: JSON lines, CSV, tab-separated values or Parquet; text files may use gzip.

An unreadable row becomes a `Flaw`, and reading continues, so that `rft.data.tasks` reports all flaws together. Problems
of a whole file raise a `DataError`.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rft.data.file_content import kind_of, read_bytes
from rft.errors import DataError
from rft.imports import missing_packages

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
"""Suffixes of task files. The first two contain JSON lines. All except Parquet may be followed by `.gz`."""

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass(frozen=True, slots=True)
class Row:
    """One row, unchecked.

    Example:
        Row("tasks.jsonl:17", {"prompt": "2 + 2 = ?", "answer": "4"})
    """

    where: str
    """Source and line (or row), from 1."""
    content: Any
    """Content of the row: an object, if the row is valid."""


@dataclass(frozen=True, slots=True)
class Flaw:
    """A row that cannot be read, or cannot become a task.

    Example:
        Flaw("tasks.jsonl:20", "invalid JSON: Expecting ',' delimiter at column 14")
    """

    where: str
    """Source and line (or row), from 1."""
    problem: str
    """The problem and its remedy."""


def read_file(path: Path, *, name: str, key: str) -> Iterator[Row | Flaw]:
    """Read a file row by row.

    Args:
        path: The file.
        name: Name of the file in messages, such as `tasks.jsonl`.
        key: Configuration key of the file in messages, such as `data.train`.

    Raises:
        DataError: The file is missing, of an unknown kind, or unreadable as a whole.
    """
    refuse_file(path, name=name, key=key)
    if kind_of(path) == ".parquet" and (problem := missing_packages(f"{key}={name}: a Parquet file", "datasets")):
        raise data_error(f"{problem}; or save it as .jsonl or .csv")
    readers = {".csv": _read_table, ".tsv": _read_table, ".parquet": _read_parquet}
    try:
        yield from readers.get(kind_of(path), _read_json_lines)(path, name)
    except (OSError, ValueError, csv.Error) as error:
        raise data_error(f"{key}={name}: {path.absolute()} cannot be read: {root_cause(error)}") from error


def refuse_file(path: Path, *, name: str, key: str) -> None:
    """Check place and name of a task file without reading it. Arguments like those of `read_file`.

    Raises:
        DataError: The file is missing, or of an unknown kind.
    """
    if not os.path.exists(path):  # Path.exists raises if a parent folder denies access
        raise data_error(f"{key}={name}: no file at {path.absolute()}{_near(path)}")
    if path.is_dir():
        files = sorted(file.name for file in path.iterdir() if is_task_file(file))
        inside = f"name one of the files in it: {', '.join(files[:10])}" if files else "it contains no task file"
        raise data_error(f"{key}={name} is a folder; {inside}")
    if not is_task_file(path):
        raise data_error(
            f"{key}={name} ends in '{path.suffix}'; allowed: {', '.join(SUFFIXES)}, and .gz after all except the last; "
            "convert it, or rename it if it contains one of these formats"
        )


def is_task_file(path: Path) -> bool:
    """Whether the file name has a suffix of task files."""
    return kind_of(path) in SUFFIXES and path.suffixes[-2:] != [".parquet", ".gz"]


def data_error(problem: str) -> DataError:
    """Return the error for one problem with task files."""
    return DataError("task files", [problem])


def root_cause(error: BaseException) -> str:
    """Return the first line of the innermost error; libraries wrap errors in uninformative sentences."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _near(path: Path) -> str:
    if not os.access(path.parent, os.R_OK | os.X_OK):
        return f"; the folder {path.parent.absolute()} does not exist either, or denies access"
    names = [file.name for file in path.parent.iterdir() if is_task_file(file)]
    nearest = difflib.get_close_matches(path.name, names, n=3)
    return f"; the same folder contains {', '.join(nearest)}" if nearest else ""


def _read_json_lines(path: Path, name: str) -> Iterator[Row | Flaw]:
    # `datasets` does not suit: Arrow merges the columns of all rows, fills gaps with nulls, and does not report the
    # faulty line. The split uses bytes, because text lines would also end at U+2028 and similar characters.
    lines = [(number, line) for number, line in enumerate(read_bytes(path).split(b"\n"), start=1) if line.strip()]
    first = lines[0][1].strip() if lines else b""
    if first in (b"[", b"{") or (len(lines) == 1 and first.startswith(b"[{")):
        raise ValueError(
            "it contains one JSON value for all tasks; put each task on its own line; for a list, use: "
            f"jq -c '.[]' {path.name} > {path.stem}.lines.jsonl"
        )
    return (_parse(line, f"{name}:{number}") for number, line in lines)


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


def _read_table(path: Path, name: str) -> Iterator[Row | Flaw]:
    # Not through `datasets` either: it guesses types, and makes 7 of the answer "007" and nothing of the answer "NA".
    separator = "\t" if kind_of(path) == ".tsv" else ","
    text = io.StringIO(read_bytes(path).decode("utf-8"), newline="")
    reader = csv.reader(text, delimiter=separator, strict=True)
    header = next(reader, [])
    _refuse_header(header, separator)
    line = reader.line_num + 1
    for cells in reader:
        where = f"{name}:{line}"
        line = reader.line_num + 1
        if cells and len(cells) != len(header):
            yield Flaw(
                where,
                f"cells: {len(cells)}, columns in the first line: {len(header)}; quote texts with "
                f"{_SEPARATORS[separator]}",
            )
        elif cells:
            yield Row(where, dict(zip(header, cells, strict=True)))


def _refuse_header(header: list[str], separator: str) -> None:
    """Refuse duplicate names, and a header with another separator."""
    if twice := sorted({column for column in header if header.count(column) > 1}):
        raise ValueError(f"several columns are named {', '.join(twice)}; rename all but one")
    others = [other for other in _SEPARATORS if other != separator and len(header) == 1 and other in header[0]]
    if others:
        remedy = "rename it to end in .tsv" if others[0] == "\t" else f"save it with {_SEPARATORS[separator]}"
        raise ValueError(
            f"its columns are separated by {_SEPARATORS[others[0]]}, not by {_SEPARATORS[separator]}; {remedy}"
        )


def _read_parquet(path: Path, name: str) -> Iterator[Row | Flaw]:
    from datasets import Dataset, disable_progress_bars
    from datasets.exceptions import DatasetGenerationError

    disable_progress_bars()
    try:
        # All rows are read at once, so the cached copy of `datasets` would only fill the disk.
        with tempfile.TemporaryDirectory() as cache:
            rows = Dataset.from_parquet(str(path), cache_dir=cache, keep_in_memory=True)
    except DatasetGenerationError as error:
        raise ValueError(root_cause(error)) from error
    return (Row(f"{name} row {number}", row) for number, row in enumerate(rows, start=1))
