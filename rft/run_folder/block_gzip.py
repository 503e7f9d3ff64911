"""Gzip in blocks, so that a part of a file can be read without the parts before it. Every gzip reader can read it.

The format is BGZF (SAM specification, section 4.1), which `bgzip` and htslib use, too: a gzip file of many members.
Each holds at most 64 KiB and states its own size in an extra field of its header.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path

BLOCK_BYTES = 65280
"""Most bytes of content in a block; even incompressible content then fits into 64 KiB."""
_HEADER = struct.Struct("<4BI2BH2BHH")
"""Magic, method, flags, time, extra flags, system, length of the extra field; then its one part: id, length, size."""
_TRAILER = struct.Struct("<2I")
"""CRC-32 and size of the content."""
_START = (0x1F, 0x8B, 8, 4, 0, 0, 0xFF, 6, ord("B"), ord("C"), 2)
"""The header of every block, up to its size."""


def compressed(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Compress data block by block, without a name and a time; the same data gives the same bytes."""
    waiting = bytearray()
    for part in parts:
        waiting += part
        while len(waiting) >= BLOCK_BYTES:
            yield _block(bytes(waiting[:BLOCK_BYTES]))
            del waiting[:BLOCK_BYTES]
    if waiting:
        yield _block(bytes(waiting))
    yield _block(b"")  # the end, as BGZF asks for


def _block(content: bytes) -> bytes:
    packed = _deflated(content, zlib.Z_DEFAULT_COMPRESSION)
    if len(packed) > BLOCK_BYTES:
        packed = _deflated(content, zlib.Z_NO_COMPRESSION)
    size = _HEADER.size + len(packed) + _TRAILER.size
    return _HEADER.pack(*_START, size - 1) + packed + _TRAILER.pack(zlib.crc32(content), len(content))


def _deflated(content: bytes, level: int) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


class BlockReader:
    """Reads parts of a gzip file. A file that is not in blocks is decompressed as a whole, once.

    Args:
        path: The file, which must not change.

    Raises:
        OSError: The file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._starts, self._places = _blocks(path)
        self._whole: bytes | None = None

    def read(self, offset: int, length: int) -> bytes:
        """Return a part of the content; less than `length` bytes at its end.

        Args:
            offset: Position in the content, bytes.
            length: Bytes to read.

        Raises:
            EOFError: The file is cut off.
            gzip.BadGzipFile: The file is damaged.
            OSError: The file cannot be read.
            zlib.error: The file is damaged.
        """
        if not self._starts:
            if self._whole is None:
                with gzip.open(self._path) as file:
                    self._whole = file.read()
            return self._whole[offset : offset + length]
        number = bisect_right(self._starts, offset) - 1
        with self._path.open("rb") as raw:
            raw.seek(self._places[number])
            with gzip.open(raw) as file:
                file.seek(offset - self._starts[number])
                return file.read(length)


def _blocks(path: Path) -> tuple[list[int], list[int]]:
    """Return the positions of the blocks in the content and in the file; empty for a file that is not in blocks."""
    starts, places = [0], [0]
    with path.open("rb") as file:
        while header := file.read(_HEADER.size):
            fields = _HEADER.unpack(header) if len(header) == _HEADER.size else ()
            if fields[:-1] != _START:
                return [], []
            end = places[-1] + fields[-1] + 1
            file.seek(end - _TRAILER.size)
            trailer = file.read(_TRAILER.size)
            if len(trailer) < _TRAILER.size:
                return [], []
            starts.append(starts[-1] + _TRAILER.unpack(trailer)[1])
            places.append(end)
    return starts[:-1], places[:-1]
