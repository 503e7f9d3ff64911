"""The rollouts of a run by row number, read through the index; rows are added while the run goes on."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from rft.errors import OutputError, WriteError
from rft.run_folder.block_gzip import BlockReader
from rft.run_folder.json_lines import COMPRESSED
from rft.run_folder.rollout_files import Place, segment_paths
from rft.run_folder.rollout_index import INDEX, end_of, read_index, scan, write_index
from rft.run_folder.run_lock import RunLock

READERS = 64
"""Compressed segments whose blocks are known; one of an older run occupies about 3 MB."""
SPARSE = 4
"""A line is read with the one before it if what lies between them is at most this many times as long."""

RECORD = np.dtype(
    [
        ("segment", "<u4"),
        ("offset", "<u8"),
        ("length", "<u4"),
        ("crc", "<u4"),
        ("step", "<i4"),
        ("phase", "<u8"),
        ("task", "<u8"),
        ("sample", "<u4"),
        ("tokens", "<u4"),
        ("reward", "<f8"),
        ("flags", "u1"),
    ]
)
"""The fields of `rollout_index.RECORD`."""
Records = np.ndarray[Any, np.dtype[Any]]
"""`[N]` records."""
Answer = TypeVar("Answer")


class IndexMismatch(Exception):
    """A line is not what the index says: the files have changed."""


class RolloutStore:
    """Reads the rollouts of a run. Used by one thread at a time.

    Args:
        folder: The run folder.
        tell: Receives sentences about damaged lines and about the progress of indexing.
    """

    def __init__(self, folder: Path, tell: Callable[[str], None]) -> None:
        self._folder = folder
        self._tell = tell
        self._readers: dict[Path, BlockReader] = {}
        self._state: tuple[Any, ...] | None = None
        self._may_read_index = True
        self.records: Records = np.empty(0, RECORD)
        """`[N]` the record of each row; read-only."""

    def refresh(self) -> None:
        """Add the rows that the run has written since; begin anew if the files do not belong to the index.

        Raises:
            OSError: A file cannot be read.
        """
        state = tuple((path, path.stat().st_size) for path in self._paths().values())
        if state == self._state:
            return
        is_first = self._state is None
        if is_first and self._may_read_index:
            known = read_index(self._folder / INDEX)
            self.records = self.records if known is None else np.frombuffer(known, RECORD)
        if len(self.records) and not self._fits():
            self._tell(f"{self._folder / INDEX} does not belong to the rollouts; rft makes it again")
            self.records = np.empty(0, RECORD)
        num_known = len(self.records)
        self._add(is_first=is_first)
        self._state = state
        if is_first and len(self.records) > num_known:
            self._save()

    def lines(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Return the lines of rows, in the order of `rows`.

        Raises:
            IndexMismatch: The files have changed; see `asked`.
        """
        found: dict[int, dict[str, Any]] = {}
        for raw, row in self._read(sorted(set(rows))):
            found[row] = json.loads(raw)
        return [found[row] for row in rows]

    def raw_lines(self, rows: Sequence[int], *, needle: bytes = b"") -> Iterator[tuple[bytes, int]]:
        """Yield bytes and row of each line, sorted by row.

        Args:
            rows: The rows.
            needle: In lower case; lines without it may be left out, unchecked.

        Raises:
            IndexMismatch: The files have changed; see `asked`.
        """
        yield from self._read(sorted(set(rows)), needle)

    def asked(self, question: Callable[[], Answer]) -> Answer:
        """Return the answer to a question about rows; if the files have changed, ask again with a new index.

        Args:
            question: Calls `lines`, `raw_lines` or `find`.

        Raises:
            IndexMismatch: The files change all the time.
        """
        try:
            return question()
        except IndexMismatch:  # a file may have become a segment
            self._state = () if self._state is None else (*self._state, "changed")
            self.refresh()
        try:
            return question()
        except IndexMismatch:
            self._state, self._may_read_index, self.records = None, False, np.empty(0, RECORD)
            self._readers.clear()
            self.refresh()
        return question()

    def prepare(self) -> None:
        """Find the blocks of compressed segments now instead of at the first question; of older runs, it takes a while.

        Raises:
            IndexMismatch: The files have changed; see `asked`.
        """
        for path in list(self._paths().values())[-READERS:]:
            if path.name.endswith(COMPRESSED):
                self._content(path, 0, 0)

    def _paths(self) -> dict[int, Path]:
        return segment_paths(self._folder)

    def _add(self, *, is_first: bool) -> None:
        """Add the rows after the last known one, with progress at the first time."""
        added: list[Records] = [self.records]
        total = sum(path.stat().st_size for path in self._paths().values())
        count = told = len(self.records)
        for batch in scan(self._folder, self._end(), self._tell):
            added.append(np.frombuffer(batch.records, RECORD))
            count += len(added[-1])
            if is_first and count - told >= 50_000:
                told = count
                self._tell(f"indexing {self._folder} ({total / 1e6:.0f} MB): {count:,} completions so far")
        self.records = np.concatenate(added)

    def _fits(self) -> bool:
        """Whether the files still hold the first and the last known line where the index says."""
        paths = self._paths()
        newest = max(paths, default=0)
        if self._end().segment > newest:
            return False
        try:
            return len(self.lines([0, len(self.records) - 1])) == 2
        except IndexMismatch:
            return False

    def _end(self) -> Place:
        """Return the end of the last known line."""
        return end_of(self.records[-1:].tobytes())

    def _save(self) -> None:
        """Keep the index for the next time, unless the run goes on or the folder cannot be written."""
        try:
            with RunLock(self._folder):
                write_index(self._folder / INDEX, self.records.tobytes())
        except OutputError:  # the run goes on; its recorder writes the index
            return
        except WriteError as error:
            self._tell(f"the index is not kept: {error}")

    def _read(self, rows: Sequence[int], needle: bytes = b"") -> Iterator[tuple[bytes, int]]:
        """Yield the bytes of each row. Rows are sorted; neighbours in a file are read together."""
        paths = self._paths()
        wanted = self.records[np.array(rows, dtype=np.int64)]
        for place, end in _together(wanted):
            part = wanted[place:end]
            start = int(part["offset"][0])
            stop = int(part["offset"][-1]) + int(part["length"][-1])
            content = self._content(paths.get(int(part["segment"][0])), start, stop - start)
            if needle and needle not in content.lower():
                continue
            columns = (part[name].tolist() for name in ("offset", "length", "crc"))
            for offset, length, crc, row in zip(*columns, rows[place:end], strict=True):
                raw = content[offset - start : offset - start + length]
                if zlib.crc32(raw) != crc:
                    raise IndexMismatch(f"row {row} of {self._folder}")
                yield raw, row

    def _content(self, path: Path | None, offset: int, length: int) -> bytes:
        if path is None:
            raise IndexMismatch(f"{self._folder} lacks a segment")
        try:
            if not path.name.endswith(COMPRESSED):
                with path.open("rb") as file:
                    file.seek(offset)
                    return file.read(length)
            reader = self._readers.pop(path, None) or BlockReader(path)
            self._readers[path] = reader  # the most recent one last
            while len(self._readers) > READERS:
                self._readers.pop(next(iter(self._readers)))
            return reader.read(offset, length)
        except (FileNotFoundError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise IndexMismatch(f"{path}: {error}") from error


def _together(wanted: Records) -> Iterator[tuple[int, int]]:
    """Yield the places of the first line, and after the last, of each part of a file that is read at once."""
    ends = wanted["offset"] + wanted["length"]
    gaps = wanted["offset"][1:] - ends[:-1]
    is_apart = (wanted["segment"][1:] != wanted["segment"][:-1]) | (gaps > SPARSE * wanted["length"][1:])
    firsts = [0, *(np.flatnonzero(is_apart) + 1).tolist(), len(wanted)] if len(wanted) else []
    yield from pairwise(firsts)
