"""The bytes of a task file: unpacked, and recognised where they are not the UTF-8 text that its name promises."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

MAX_UNPACKED_BYTES = 8 << 30
"""A gzip file that unpacks to more is refused: a few megabytes can hold terabytes of zeros."""

_MARKS = {b"\xff\xfe\x00\x00": "UTF-32", b"\x00\x00\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
"""Byte order marks; those of UTF-32 first, for one of them begins like one of UTF-16."""
_CONTAINERS = {
    b"PAR1": "a Parquet file; rename it to end in .parquet",
    b"\x1f\x8b": "packed with gzip; add .gz to its name",
    b"PK\x03\x04": "a zip archive or a spreadsheet; unpack it, or export it as CSV",
    b"BZh": "packed with bzip2; unpack it with: bunzip2 {name}",
    b"\xfd7zXZ": "packed with xz; unpack it with: unxz {name}",
    b"\x28\xb5\x2f\xfd": "packed with zstd; unpack it with: unzstd {name}",
}
"""What other formats begin with, and what to do about it."""


def kind_of(path: Path) -> str:
    """The suffix that says how to read a file, that of gzip left out: `.csv` for `tasks.csv.gz`."""
    return Path(path.stem).suffix if path.suffix == ".gz" else path.suffix


def read_bytes(path: Path) -> bytes:
    """The bytes of a text file, unpacked if its name ends in `.gz`, without UTF-8's byte order mark.

    Raises:
        ValueError: It holds something else than UTF-8 text, unpacks to too much, or is a torn gzip file.
        OSError: It cannot be read.
    """
    content = path.read_bytes() if path.suffix != ".gz" else _unpacked(path)
    for mark, what in _CONTAINERS.items():
        if content.startswith(mark):
            raise ValueError(f"it is {what.format(name=path.name)}")
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), None)
    if encoding is None and 3 * content.count(0, 0, 4096) > len(content[:4096]):  # Latin letters have a zero each
        encoding = "UTF-16LE" if content[1:2] == b"\x00" else "UTF-16BE"
    if encoding is not None:
        raise ValueError(
            f"it is {encoding}, not UTF-8; convert it with: iconv -f {encoding} -t UTF-8 {path.name} > utf8-{path.name}"
        )
    return content.removeprefix(b"\xef\xbb\xbf")


def _unpacked(path: Path) -> bytes:
    try:
        with gzip.open(path) as file:
            content = file.read(MAX_UNPACKED_BYTES + 1)
    except (EOFError, zlib.error) as error:
        raise ValueError(f"the gzip file is damaged ({error}); copy or download it again") from None
    if len(content) > MAX_UNPACKED_BYTES:
        raise ValueError(f"it unpacks to more than {MAX_UNPACKED_BYTES >> 30} GiB; split it")
    return content
