"""Reads the bytes of a task file, decompresses them, and recognizes content that is not UTF-8 text."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

MAX_UNPACKED_BYTES = 8 << 30
"""Largest uncompressed size of a gzip file: a few megabytes can contain terabytes of zeros."""

_MARKS = {b"\xff\xfe\x00\x00": "UTF-32", b"\x00\x00\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
"""Byte order marks. Those of UTF-32 come first, because one of them starts like one of UTF-16."""
_CONTAINERS = {
    b"PAR1": "a Parquet file; rename it to end in .parquet",
    b"\x1f\x8b": "compressed with gzip; add .gz to its name",
    b"PK\x03\x04": "a zip archive or a spreadsheet; unpack it, or export it as CSV",
    b"BZh": "compressed with bzip2; decompress it with: bunzip2 {name}",
    b"\xfd7zXZ": "compressed with xz; decompress it with: unxz {name}",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; decompress it with: unzstd {name}",
}
"""First bytes of other formats, with the remedy."""


def kind_of(path: Path) -> str:
    """Return the suffix that determines the format, without `.gz`: `.csv` for `tasks.csv.gz`."""
    return Path(path.stem).suffix if path.suffix == ".gz" else path.suffix


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a text file without a byte order mark; files in `.gz` are decompressed.

    Raises:
        ValueError: The file is not UTF-8 text, is too large uncompressed, or is a damaged gzip file.
        OSError: The file cannot be read.
    """
    content = path.read_bytes() if path.suffix != ".gz" else _unpacked(path)
    for mark, what in _CONTAINERS.items():
        if content.startswith(mark):
            raise ValueError(f"it is {what.format(name=path.name)}")
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), None)
    if encoding is None and 3 * content.count(0, 0, 4096) > len(content[:4096]):  # UTF-16: a zero in each Latin letter
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
        raise ValueError(f"its uncompressed size exceeds {MAX_UNPACKED_BYTES >> 30} GiB; split it")
    return content
