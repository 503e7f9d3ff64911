"""The index of a run's rollouts, `rollouts.index`: where each line is, and what it is filtered and sorted by.

A header of 16 bytes is followed by one record (`RECORD`) per line of rollouts.jsonl and its segments, in their order.
The recorder appends the records of the lines that it writes. Readers add what is missing, and check each line that
they read against its checksum, so an index that does not belong to the files is noticed and made again.
"""

from __future__ import annotations

import math
import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from rft.reliability.durable import append, replace_file, writing
from rft.run_folder.json_lines import Tell, numbered_lines
from rft.run_folder.rollout_files import Place, segment_paths
from rft.types import Status, StopReason

INDEX = "rollouts.index"
VERSION = 1
RECORD = struct.Struct("<IQIIiQQIIdB")
"""One record. Its fields, in order:

- segment: number of the segment that holds the line, or that rollouts.jsonl will become;
- offset: position of the line in the uncompressed segment, bytes;
- length: bytes of the line, with its newline;
- crc: CRC-32 of these bytes;
- step;
- phase, task: `hashed`;
- sample: position in the group;
- tokens: length of the completion;
- reward: NaN for none;
- flags: FAULT, CUT, EPISODE.
"""
FAULT, CUT, EPISODE = 1, 2, 4
"""A grader or the environment failed; the completion was cut off; the completion has turns."""

_HEADER = struct.Struct("<8sII")
_START = _HEADER.pack(b"rftindex", VERSION, RECORD.size)
_FAULTS = {status.value for status in Status if status.is_grader_fault}


def hashed(text: str) -> int:
    """Return the 64-bit hash by which the index knows a phase or a task."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def record(place: Place, raw: bytes, line: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the fields of a line's record.

    Args:
        place: Where the line begins.
        raw: Its bytes, with the newline.
        line: Its content. A value of the wrong type counts as missing.
    """
    reward = line.get("reward")
    scores = line.get("scores")
    statuses = [score.get("status") for score in scores.values()] if isinstance(scores, dict) else []
    flags = (
        FAULT * any(status in _FAULTS for status in statuses)
        + CUT * (line.get("stop") == StopReason.LENGTH)
        + EPISODE * bool(line.get("turns"))
    )
    return (
        place.segment,
        place.offset,
        len(raw),
        zlib.crc32(raw),
        _whole(line.get("step"), -(2**31), 2**31),
        hashed(str(line.get("phase", ""))),
        hashed(str(line.get("task_id", ""))),
        _whole(line.get("index"), 0, 2**32),
        _whole(line.get("num_completion_tokens"), 0, 2**32),
        reward if isinstance(reward, int | float) and abs(reward) < 2**1023 else math.nan,
        flags,
    )


def _whole(value: Any, lowest: int, end: int) -> int:
    return value if isinstance(value, int) and lowest <= value < end else 0


class IndexWriter:
    """Appends the records of lines that were appended to rollouts.jsonl.

    An index that ends elsewhere, such as none beside older lines, is left to its readers.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / INDEX
        self._is_complete: bool | None = None

    def append(self, place: Place, lines: Sequence[tuple[bytes, Mapping[str, Any]]]) -> None:
        """Append records.

        Args:
            place: Where the first line begins.
            lines: The bytes and the content of each line.

        Raises:
            WriteError: The disk is full or cannot be written.
        """
        if self._is_complete is None:
            self._is_complete = self._ends_at(place)
        if not self._is_complete:
            return
        records = []
        for raw, line in lines:
            records.append(RECORD.pack(*record(place, raw, line)))
            place = Place(place.segment, place.offset + len(raw))
        append(self._path, b"".join(records))

    def _ends_at(self, place: Place) -> bool:
        """Whether the index covers all lines before a place; begins an index where the first line is written."""
        if place == Place(1, 0):
            replace_file(self._path, [_START])
            return True
        known = read_index(self._path)
        if known is None or end_of(known) != place:
            return False
        with writing(self._path):  # a crash may have left an incomplete record
            os.truncate(self._path, len(_START) + len(known))
        return True


def end_of(records: bytes) -> Place:
    """Return the end of the last line that the records cover; the place of the first line without records."""
    if not records:
        return Place(1, 0)
    segment, offset, length, *_ = RECORD.unpack(records[-RECORD.size :])
    return Place(segment, offset + length)


def read_index(path: Path) -> bytes | None:
    """Return the records of an index, without an incomplete last one; None for none, and for one of another version."""
    try:
        content = path.read_bytes()
    except OSError:  # none, or one that this user may not read: it is made again
        return None
    if not content.startswith(_START):
        return None
    size = len(content) - len(_START)
    return content[len(_START) : len(content) - size % RECORD.size]


def write_index(path: Path, records: bytes) -> None:
    """Write a whole index, replacing an existing one.

    Raises:
        WriteError: The disk is full or cannot be written.
    """
    replace_file(path, [_START, records])


def cut_back_index(folder: Path, *, last_step: int | None, dropped_phases: Sequence[str], is_damaged: bool) -> None:
    """Remove the records of lines that a resume removed.

    Args:
        folder: The run folder.
        last_step: The last step whose lines are kept; None if none is.
        dropped_phases: Phases whose lines were removed.
        is_damaged: Whether damaged lines were removed, so that later ones moved. The index is removed then.

    Raises:
        WriteError: The file cannot be written.
    """
    path = folder / INDEX
    known = read_index(path)
    with writing(path):
        if known is None or last_step is None or is_damaged:
            path.unlink(missing_ok=True)
            return
        phases = {hashed(phase) for phase in dropped_phases}
        kept = 0
        for _, _, _, _, step, phase, *_ in RECORD.iter_unpack(known):
            if step > last_step or phase in phases:
                break
            kept += 1
        os.truncate(path, len(_START) + kept * RECORD.size)


class Scanned(NamedTuple):
    """Lines that were read for the index.

    Example:
        Scanned(records=b"...", num_bytes=1_000_000)
    """

    records: bytes
    """Their records."""
    num_bytes: int
    """Bytes that were read of the segment so far, uncompressed."""


def scan(folder: Path, end: Place, tell: Tell, *, batch: int = 5000) -> Iterator[Scanned]:
    """Yield the records of the lines from `end` on, batch by batch. An incomplete last line is left for later.

    Args:
        folder: The run folder.
        end: Where to begin.
        tell: Receives a sentence about each damaged line.
        batch: Most records of a batch.
    """
    for number, path in segment_paths(folder).items():
        if number < end.segment:
            continue
        start = end.offset if number == end.segment else 0
        found: list[bytes] = []
        offset = start
        for offset, raw, line in numbered_lines(path, tell, start=start):
            found.append(RECORD.pack(*record(Place(number, offset), raw, line)))
            if len(found) == batch:
                yield Scanned(b"".join(found), offset)
                found = []
        yield Scanned(b"".join(found), offset)
