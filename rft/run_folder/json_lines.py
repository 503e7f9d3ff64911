"""JSON Lines files of a run, plain or compressed: reads them, and cuts them back to a step.

An incomplete last line, which a killed run leaves, is skipped. A damaged line is skipped and reported.
"""

from __future__ import annotations

import gzip
import json
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from rft.reliability.durable import replace_file, writing
from rft.run_folder.block_gzip import compressed

COMPRESSED = ".gz"

Tell = Callable[[str], None]
"""Receives a sentence about each damaged line."""
Keep = Callable[[dict[str, Any]], bool]
"""Whether a line is kept."""


def warn_reader(text: str) -> None:
    """Warn the caller of a function that reads a run folder."""
    warnings.warn(text, stacklevel=2)


def read_lines(path: Path, tell: Tell = warn_reader) -> Iterator[dict[str, Any]]:
    """Yield the lines of a file.

    Args:
        path: The file; `.gz` is decompressed.
        tell: Receives a sentence about each damaged line.
    """
    return (line for _, _, line in _whole_lines(path, tell))


def numbered_lines(path: Path, tell: Tell, *, start: int = 0) -> Iterator[tuple[int, bytes, dict[str, Any]]]:
    """Yield position, bytes and content of each whole line.

    Args:
        path: The file; `.gz` is decompressed.
        tell: Receives a sentence about each damaged line.
        start: Position in the content at which to begin, bytes.
    """
    return _whole_lines(path, tell, start=start)


def cut_back(path: Path, keep: Keep, tell: Tell) -> bool:
    """Remove lines from a file, and those that are incomplete or damaged. Kept lines stay equal to the byte.

    Args:
        path: The file.
        keep: Whether a line is kept.
        tell: Receives a sentence about each damaged line.

    Returns:
        Whether a line was removed.

    Raises:
        WriteError: The file cannot be written. It keeps its content.
    """
    size = 0

    def kept(tell: Tell) -> Iterator[bytes]:
        nonlocal size
        for _, raw, line in _whole_lines(path, tell):
            if keep(line):
                size += len(raw)
                yield raw

    if not path.name.endswith(COMPRESSED):
        before = path.stat().st_size
        replace_file(path, kept(tell))
        return size != before
    if all(keep(line) for _, _, line in _whole_lines(path, tell)):
        return False
    replace_file(path, compressed(kept(lambda _: None)))
    return True


def compress_file(path: Path) -> Path:
    """Replace a file by its compressed copy; return the path of the copy.

    Raises:
        WriteError: The copy cannot be written. The file stays.
    """
    target = path.with_name(path.name + COMPRESSED)
    with path.open("rb") as file:
        replace_file(target, compressed(iter(lambda: file.read(2**20), b"")))
    with writing(path):
        path.unlink()
    return target


def _whole_lines(path: Path, tell: Tell, *, start: int = 0) -> Iterator[tuple[int, bytes, dict[str, Any]]]:
    """Yield position, bytes and content of each whole line."""
    number = 0
    end = start
    with _opened(path) as file:
        try:
            file.seek(start)
            for number, raw in enumerate(file, start=1):
                offset, end = end, end + len(raw)
                if not raw.endswith(b"\n"):
                    continue
                if (line := _parsed(raw)) is not None:
                    yield offset, raw, line
                else:
                    where = f"{path}:{number}" if not start else f"{path}, byte {offset}"
                    tell(f"{where}: the line is damaged; rft leaves it out")
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            tell(f"{path} is damaged after line {number} ({error}); rft leaves out the rest")


def _opened(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.name.endswith(COMPRESSED) else path.open("rb")


def _parsed(raw: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(raw)
    except (ValueError, RecursionError):  # ValueError also for bytes that are not UTF-8
        return None
    return line if isinstance(line, dict) else None
