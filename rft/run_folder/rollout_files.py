"""The rollouts of a run: rollouts.jsonl, and compressed segments with the earlier lines.

    rollouts-000001.jsonl.gz, rollouts-000002.jsonl.gz, ...    the earlier lines, in the order of the numbers
    rollouts.jsonl                                             the newest lines

A full rollouts.jsonl is renamed to the next segment, and a thread compresses the segment. A killed run may leave a
segment uncompressed, or both of its forms; readers then use the compressed one, which appears only when it is whole.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any, NamedTuple

from rft.reliability.durable import append, sync_folder, writing
from rft.run_folder.json_lines import COMPRESSED, Keep, Tell, compress_file, cut_back, read_lines, warn_reader
from rft.waiting import in_thread

ROLLOUTS = "rollouts.jsonl"
SEGMENT_BYTES = 64 * 2**20
"""Size at which rollouts.jsonl becomes a segment: a few seconds of compression."""
CLOSE_S = 60.0
"""Seconds that a compression has at the end of a run."""
_SEGMENT = re.compile(r"rollouts-(\d+)\.jsonl(\.gz)?")


class Place(NamedTuple):
    """Where a line of the rollouts begins.

    Example:
        Place(segment=2, offset=1024)
    """

    segment: int
    """Number of the segment, from 1; of rollouts.jsonl, the number of the segment that it will become."""
    offset: int
    """Position in the uncompressed segment, bytes."""


class RolloutFiles:
    """Appends rollouts to the files of a run folder.

    Args:
        folder: The run folder.
        segment_bytes: Size at which rollouts.jsonl becomes a segment.
    """

    def __init__(self, folder: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._compression: Future[Path] | None = None
        self._segment: int | None = None

    def append(self, lines: bytes) -> Place:
        """Append lines to rollouts.jsonl, after making room if it is full; return the place of the first one.

        Raises:
            WriteError: The disk is full or cannot be written.
        """
        path = self._folder / ROLLOUTS
        if _size(path) >= self._segment_bytes:
            self._rotate(path)
        if self._segment is None:
            self._segment = _next_segment(self._folder)
        place = Place(self._segment, _size(path))
        append(path, lines)
        return place

    def close(self) -> None:
        """Wait for the compression of a segment. If it fails, the segment stays readable and uncompressed."""
        if self._compression is not None:
            wait([self._compression], timeout=CLOSE_S)

    def _rotate(self, path: Path) -> None:
        if self._compression is not None:
            if not self._compression.done():
                return  # the next call rotates a larger file
            self._compression.result()
        number = _next_segment(self._folder)
        segment = self._folder / f"rollouts-{number:06d}.jsonl"
        self._segment = number + 1
        with writing(segment):
            path.rename(segment)
            sync_folder(self._folder)
        self._compression = in_thread(lambda: compress_file(segment), name=f"compress {segment.name}")


def rollout_paths(folder: Path) -> list[Path]:
    """Return the files with the rollouts of a run, in order; none if the path is no folder."""
    return list(segment_paths(folder).values())


def segment_paths(folder: Path) -> dict[int, Path]:
    """Return the files with the rollouts of a run by number, in order; rollouts.jsonl has the last number."""
    if not os.path.isdir(folder):  # unlike Path.is_dir, it does not raise for names that are too long
        return {}
    segments = _segments(folder)
    newest = folder / ROLLOUTS
    numbered = {number: segments[number] for number in sorted(segments)}
    return {**numbered, max(segments, default=0) + 1: newest} if newest.exists() else numbered


def read_rollout_lines(folder: Path, tell: Tell = warn_reader) -> Iterator[dict[str, Any]]:
    """Yield the lines of all rollouts of a run, in order, also while the run continues.

    Args:
        folder: The run folder.
        tell: Receives a sentence about each damaged line.
    """
    for path in rollout_paths(folder):
        was_compressed = path.name != ROLLOUTS and not path.exists()  # since the paths were listed
        yield from read_lines(path.with_name(path.name + COMPRESSED) if was_compressed else path, tell)


def cut_back_rollouts(folder: Path, keep: Keep, tell: Tell) -> None:
    """Remove lines from the end of a run's rollouts, and complete an interrupted rotation.

    Args:
        folder: The run folder.
        keep: Whether a line is kept. Lines are in the order of time, so the oldest segments are not read.
        tell: Receives a sentence about each damaged line.

    Raises:
        WriteError: A file cannot be written. It keeps its content.
    """
    _complete_rotation(folder)
    for path in reversed(rollout_paths(folder)):
        has_changed = cut_back(path, keep, tell)
        is_empty = path.name != ROLLOUTS and next(read_lines(path), None) is None
        if is_empty:
            with writing(path):
                path.unlink()
        elif path.name != ROLLOUTS and not has_changed:
            break
    for path in rollout_paths(folder):
        if path.name != ROLLOUTS and not path.name.endswith(COMPRESSED):
            compress_file(path)


def _complete_rotation(folder: Path) -> None:
    """Remove what a killed run, or an interrupted copy of one, holds twice."""
    for number, path in _segments(folder).items():
        twice = folder / f"rollouts-{number:06d}.jsonl"
        if path != twice and twice.exists():
            with writing(twice):
                twice.unlink()
    newest = folder / ROLLOUTS
    first = _first_line(newest) if newest.exists() else None
    # A copy in storage may hold a rollouts.jsonl that is older than its segments.
    if first is not None and any(_first_line(segment) == first for segment in _segments(folder).values()):
        with writing(newest):
            newest.unlink()


def _first_line(path: Path) -> dict[str, Any] | None:
    return next(read_lines(path, lambda _: None), None)  # the cut that follows reports damaged lines


def _next_segment(folder: Path) -> int:
    """Return the number of the segment that rollouts.jsonl will become."""
    return max(_segments(folder), default=0) + 1


def _size(path: Path) -> int:
    """Return the size of a file in bytes; 0 if it does not exist."""
    return path.stat().st_size if path.exists() else 0


def _segments(folder: Path) -> dict[int, Path]:
    """Return the segments by number, compressed where the compressed form exists."""
    found: dict[int, Path] = {}
    for path in sorted(folder.glob("rollouts-*.jsonl*")):  # .jsonl sorts before .jsonl.gz
        if match := _SEGMENT.fullmatch(path.name):
            found[int(match[1])] = path
    return found
