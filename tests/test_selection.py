"""The list of files that share a test process keeps up with the files."""

from tests.selection import SHARED_STARTS, TESTS


def test_files_that_share_a_start_are_there() -> None:
    files = [file for files in SHARED_STARTS.values() for file in files]
    assert [file for file in files if not (TESTS.parent / file).is_file()] == []
    assert len(files) == len(set(files))
