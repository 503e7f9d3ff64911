"""Gzip in blocks, so that a part of a file can be read without the parts before it. Every gzip reader can read it.

The format is BGZF (SAM specification, section 4.1), which `bgzip` and htslib use, too: a gzip file of many members.
Each holds at most 64 KiB and states its own size in an extra field of its header.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

BLOCK_BYTES = 65280
"""Most bytes of content in a block; even incompressible content then fits into 64 KiB."""
POINT_BYTES = 2**20
"""Content between two places at which a file that is not in blocks can be read."""
_GZIP = zlib.MAX_WBITS | 16
"""Lets zlib read the header of gzip, and check the content against its CRC-32."""
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
    """Reads parts of a gzip file. A file that is not in blocks is decompressed once, to find places to begin at.

    Args:
        path: The file, which must not change.

    Raises:
        OSError: The file cannot be read.
        zlib.error: The file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._starts, self._places = _blocks(path)
        self._unpackers: list[Any] = []
        self._size, self._latest, self._is_cut_off = 0, (-1, b""), False
        if not self._starts:
            self._find_places()

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
        number = bisect_right(self._starts, offset) - 1
        skipped = offset - self._starts[number]
        if self._unpackers:
            content = self._span(number)[skipped : skipped + length]
            if offset + length > self._size and self._is_cut_off:
                raise EOFError(f"{self._path} is cut off")
            is_more = len(content) < length and number + 1 < len(self._starts)
            return content + self.read(self._starts[number + 1], length - len(content)) if is_more else content
        last = bisect_left(self._starts, offset + length)
        with self._path.open("rb") as raw:
            raw.seek(self._places[number])
            if last < len(self._places):  # blocks as a whole, without the layers of `gzip`
                blocks = (raw.read(end - start) for start, end in pairwise(self._places[number : last + 1]))
                return b"".join(zlib.decompress(block, _GZIP) for block in blocks)[skipped : skipped + length]
            with gzip.open(raw) as file:
                file.seek(skipped)
                return file.read(length)

    def _span(self, number: int) -> bytes:
        """Return the content from one place to the next; the latest one is kept."""
        if self._latest[0] != number:
            length = [*self._starts, self._size][number + 1] - self._starts[number]
            with self._path.open("rb") as raw:
                raw.seek(self._places[number])
                self._latest = number, _unpacked(raw, self._unpackers[number].copy(), length)
        return self._latest[1]

    def _find_places(self) -> None:
        """Keep a copy of the decompressor, about 40 kB, after each `POINT_BYTES` of content."""
        unpacker = zlib.decompressobj(_GZIP)
        self._starts, self._places, self._unpackers = [0], [0], [unpacker.copy()]
        with self._path.open("rb") as file:
            while part := file.read(BLOCK_BYTES):
                self._size += len(unpacker.decompress(part))
                if self._size - self._starts[-1] >= POINT_BYTES:
                    self._starts.append(self._size)
                    self._places.append(file.tell())
                    self._unpackers.append(unpacker.copy())
        self._is_cut_off = not unpacker.eof


def _unpacked(file: BinaryIO, unpacker: Any, length: int) -> bytes:
    """Return the first `length` bytes that a decompressor makes of the rest of a file."""
    content = bytearray()
    while len(content) < length and not unpacker.eof:
        part = file.read(BLOCK_BYTES)
        if not part:
            raise EOFError("the gzip file is cut off")
        content += unpacker.decompress(part)
    return bytes(content[:length])


def _blocks(path: Path) -> tuple[list[int], list[int]]:
    """Return the positions of the blocks in the content and in the file; empty for a file that is not in blocks.

    What cannot be a block is the last one: reading it says what is wrong.
    """
    starts, places = [0], [0]
    with path.open("rb") as file:
        while header := file.read(_HEADER.size):
            fields = _HEADER.unpack(header) if len(header) == _HEADER.size else ()
            if fields[:-1] != _START:
                return (starts, places) if places[-1] else ([], [])
            end = places[-1] + fields[-1] + 1
            file.seek(end - _TRAILER.size)
            trailer = file.read(_TRAILER.size)
            if len(trailer) < _TRAILER.size:
                return starts, places
            starts.append(starts[-1] + _TRAILER.unpack(trailer)[1])
            places.append(end)
    return starts[:-1], places[:-1]
