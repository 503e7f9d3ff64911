"""The table of CONTRIBUTING.md names the files to create and to change; they must be there."""

import re

import pytest

from .blocks import ROOT

TABLE = [line for line in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines() if line.startswith("| a")]
PATH = re.compile(r"`(?:python )?([\w.<>/]+/[\w.<>]+)`")


def test_the_table_has_the_additions_that_people_make() -> None:
    additions = {line.split("|")[1].strip() for line in TABLE}
    assert {"an algorithm", "an engine", "a grader", "a source of tasks", "a tracker", "a command"} <= additions


@pytest.mark.parametrize("line", TABLE, ids=lambda line: line.split("|")[1].strip().replace(" ", "_"))
def test_the_files_exist(line: str) -> None:
    """A path with a placeholder, such as `graders/<name>.py`, must have examples."""
    patterns = [re.sub("<[^>]+>", "*", path) for path in PATH.findall(line)]
    assert patterns
    assert [pattern for pattern in patterns if not any(ROOT.glob(pattern))] == []


def test_a_test_bears_its_folder_as_a_mark(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("docs")
