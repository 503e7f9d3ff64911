"""Gzip in blocks: any part is read without the parts before it, and other readers take it for gzip."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from rft.run_folder.block_gzip import BLOCK_BYTES, BlockReader, compressed

CONTENT = b"".join(b"%d,\n" % number for number in range(40_000))  # four blocks
NOISE = random.Random(0).randbytes(BLOCK_BYTES + 100)  # which deflate makes longer


@pytest.mark.parametrize("content", [b"", b"a", CONTENT, NOISE], ids=["empty", "short", "blocks", "noise"])
def test_any_gzip_reader_reads_it(content: bytes) -> None:
    parts = (content[start : start + 1000] for start in range(0, len(content), 1000))
    assert gzip.decompress(b"".join(compressed(parts))) == content


@pytest.mark.parametrize("is_in_blocks", [True, False])
def test_parts_are_read_alone(tmp_path: Path, is_in_blocks: bool) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(b"".join(compressed([CONTENT])) if is_in_blocks else gzip.compress(CONTENT))
    reader = BlockReader(path)
    for offset, length in (
        (0, 5),
        (BLOCK_BYTES - 2, 4),
        (BLOCK_BYTES, 1),
        (3 * BLOCK_BYTES + 7, 10),
        (len(CONTENT), 3),
    ):
        assert reader.read(offset, length) == CONTENT[offset : offset + length]
    assert reader.read(0, len(CONTENT)) == CONTENT


def test_it_is_bgzf(tmp_path: Path) -> None:
    blocks = b"".join(compressed([b"abc"]))
    # The empty block at the end, byte for byte as the SAM specification has it.
    assert blocks.endswith(bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000"))
    assert blocks[16] + 256 * blocks[17] + 1 == len(blocks) - 28  # the size that the first block states


def test_a_cut_off_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(b"".join(compressed([CONTENT]))[:-40])
    with pytest.raises(EOFError):
        BlockReader(path).read(len(CONTENT) - 10, 10)


def test_a_long_file_that_is_not_in_blocks_is_read_from_places_within(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    content = b"".join(b"%d," % number for number in range(500_000))  # 3.4 MB
    path.write_bytes(gzip.compress(content))
    reader = BlockReader(path)
    for offset, length in ((3_000_000, 20), (0, 3), (1_000_000, 2_000_000), (len(content) - 4, 9)):
        assert reader.read(offset, length) == content[offset : offset + length]
    path.write_bytes(gzip.compress(content)[:-100])
    with pytest.raises(EOFError):
        BlockReader(path).read(len(content) - 10, 10)
