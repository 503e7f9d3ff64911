"""The public names of `rft`: few, documented, imported when they are used, and known to type checkers."""

import ast
import inspect
from pathlib import Path

import pytest

import rft

STUB = Path(rft.__file__).with_suffix(".pyi")


def test_type_checkers_see_every_name() -> None:
    declared: dict[str, str] = {}
    for statement in ast.parse(STUB.read_text()).body:
        if isinstance(statement, ast.ImportFrom):
            declared |= {str(alias.asname): str(statement.module) for alias in statement.names}
    assert declared == rft._MODULES  # type: ignore[attr-defined]
    assert (STUB.parent / "py.typed").exists()


def test_every_name_is_documented_with_an_example() -> None:
    for name in rft.__all__:  # type: ignore[attr-defined]
        if name != "__version__":
            text = inspect.getdoc(getattr(rft, name))
            assert text and "Example:" in text, name


def test_names_that_do_not_exist() -> None:
    with pytest.raises(AttributeError, match="module 'rft' has no attribute 'trian'"):
        _ = rft.trian  # type: ignore[attr-defined]
    assert {"open_run", "__version__"} <= set(dir(rft))
