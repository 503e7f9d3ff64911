"""Files and functions stay small enough to be read in one sitting, and the root of the package stays short."""

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parsed import parsed, statements

ROOT = Path(__file__).parents[1]
FOLDERS = ("rft", "graders", "hydra_plugins", "tests", "benchmarks", "scripts")
MAX_FILE_LINES = 399
MAX_FUNCTION_LINES = 59
"""From `def` to the last line, docstring included."""
MEDIAN_FILE_LINES = (100, 150)
MAX_ROOT_MODULES = 12

FILES = sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))


def name_of(file: Path) -> str:
    return str(file.relative_to(ROOT))


def lines_of(file: Path) -> int:
    return len(file.read_text(encoding="utf-8").splitlines())


def functions_of(file: Path) -> Iterator[tuple[str, int]]:
    """Each function of a file, as `rft/loop.py:39 train`, with its number of lines."""
    for node in statements(parsed(file)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield f"{name_of(file)}:{node.lineno} {node.name}", node.end_lineno - node.lineno + 1


@pytest.mark.parametrize("folder", FOLDERS)
def test_files_are_short(folder: str) -> None:
    files = {name_of(file): lines_of(file) for file in FILES if file.is_relative_to(ROOT / folder)}
    assert {name: lines for name, lines in files.items() if lines > MAX_FILE_LINES} == {}


@pytest.mark.parametrize("folder", FOLDERS)
def test_functions_are_short(folder: str) -> None:
    files = [file for file in FILES if file.is_relative_to(ROOT / folder)]
    functions = dict(function for file in files for function in functions_of(file))
    assert {name: lines for name, lines in functions.items() if lines > MAX_FUNCTION_LINES} == {}


def test_the_median_file_takes_a_few_minutes_to_read() -> None:
    shipped = [lines_of(file) for file in FILES if file.is_relative_to(ROOT / "rft") and file.name != "__init__.py"]
    lowest, highest = MEDIAN_FILE_LINES
    assert lowest <= statistics.median(shipped) <= highest


def test_the_root_of_the_package_holds_few_modules() -> None:
    assert len(list((ROOT / "rft").glob("*.py"))) <= MAX_ROOT_MODULES
