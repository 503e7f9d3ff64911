"""Tools that cannot be offered to a model, and the remedies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rft.config.tools import ToolConfig
from rft.episodes.tools.loading import load_tools
from rft.run.playing.environment import score_problems
from rft.types import Split, Task

TOOLS = '''
from pathlib import Path
from typing import Literal

def untyped(a) -> int:
    """Add.

    Args:
        a: A number.
    """

def brackets(a: int) -> int:
    """Add.

    Args:
        a (int): A number.
    """

def default(a, b=2, c: int = 1) -> int:
    """Add.

    Args:
        a: A number.
    """

def silent(a: int) -> int:
    return a

def unexplained(a: int) -> int:
    """Add."""

def many(*numbers: int) -> int:
    """Add.

    Args:
        numbers: Numbers.
    """

def of_class(path: Path) -> str:
    """Read.

    Args:
        path: The file.
    """

def in_list(paths: list[Path]) -> str:
    """Read.

    Args:
        paths: The files.
    """

def unresolved(a: "Missing") -> int:
    """Add.

    Args:
        a: A number.
    """

def good(unit: Literal["celsius", "kelvin"], values: list[int], note: str | None = None) -> str:
    """Convert temperatures.

    Args:
        unit: The unit.
        values: The
            temperatures.
        note: A note.
    """

class Pair:
    def good(self, a: int) -> int:
        """Keep.

        Args:
            a: A number.
        """

class Empty:
    def close(self): ...

class First:
    def one(self) -> int:
        """One."""
    def get_reward(self): ...

class Secret:
    def reset(self, secret, hint=None): ...
    def three(self) -> int:
        """Three."""

class Second:
    def two(self) -> int:
        """Two."""
    def get_reward(self): ...

number = 3
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "tools.py").write_text(TOOLS)
    return tmp_path / "tools.py"


def entries(file: Path, *names: str, **settings: Any) -> dict[str, ToolConfig]:
    return {name: ToolConfig(use=f"{file}:{name}", **settings) for name in names}


def test_a_schema_of_types_and_docstring(file: Path) -> None:
    environment = load_tools(entries(file, "good"), max_invalid_calls=3)
    assert environment.tools == (
        {
            "type": "function",
            "function": {
                "name": "good",
                "description": "Convert temperatures.",
                "parameters": {
                    "type": "object",
                    "properties": {
                        "unit": {"type": "string", "enum": ["celsius", "kelvin"], "description": "The unit."},
                        "values": {
                            "type": "array",
                            "items": {"type": "integer"},
                            "description": "The temperatures.",
                        },
                        "note": {"type": "string", "nullable": True, "description": "A note."},
                    },
                    "required": ["unit", "values"],
                },
            },
        },
    )
    assert (environment.has_score, environment.speaks, environment.entry_of) == (False, False, {"good": "good"})


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("untyped", 'tools.py:5: the parameter a of untyped has no type; write "a: str", or another of str, int, '),
        (
            "silent",
            "tools.py:26: silent has no docstring, from which the model learns what it does; begin its body with "
            '"""<What it does.>""", and give it a section "Args:" with "a: <its meaning>"',
        ),
        (
            "unexplained",
            'tools.py:29: the docstring of unexplained does not explain a; add "a: <its meaning>" in a section "Args:"',
        ),
        (
            "brackets",
            "tools.py:12: the docstring of brackets gives a a type in brackets; write the type in the signature alone, "
            'and "a: <its meaning>" in the docstring',
        ),
        ("many", "many takes *numbers: int, which a model cannot pass by name; name every parameter"),
        ("of_class", "the parameter path of of_class has the type Path, which a model cannot write; use str, int,"),
        ("in_list", "the parameter paths of in_list has the type Path"),
        ("unresolved", "a type of unresolved cannot be found: name 'Missing' is not defined"),
        ("Empty", "the class Empty has no public methods that could be tools; add one"),
        ("number", "is neither a function nor a class"),
        ("gone", "has no 'gone'"),
    ],
)
def test_what_is_no_tool(file: Path, name: str, problem: str) -> None:
    with pytest.raises(ValueError, match=r"^tools\.") as raised:
        load_tools(entries(file, name), max_invalid_calls=3)
    assert str(raised.value).startswith(f"tools.{name}: ") and problem in str(raised.value)


def test_all_problems_are_told_together(file: Path) -> None:
    given = entries(file, "default", "good", "Pair", "First", "Second") | {"x": ToolConfig(use="abacus")}
    with pytest.raises(ValueError, match="default") as raised:
        load_tools(given, max_invalid_calls=3)
    [first, second, third, unknown, twice, rewards] = str(raised.value).splitlines()
    assert 'the parameter a of default has no type; write "a: str"' in first
    assert 'the parameter b of default has no type; write "b: int = 2"' in second
    assert third == (
        f"tools.default: {file}:19: the docstring of default does not explain b, c; add "
        '"b: <its meaning>" and "c: <its meaning>" in its section "Args:"'
    )
    assert unknown.startswith("tools.x: there is no tool 'abacus'; rft has ")
    assert twice == "tools.good, tools.Pair: the tool 'good' occurs 2 times; rename one"
    assert rewards == "tools.Second: another entry has a get_reward already; keep one"


def test_options_that_a_tool_does_not_take(file: Path) -> None:
    with pytest.raises(ValueError, match=r"tools\.good\.options: it takes no size"):
        load_tools(entries(file, "good", options={"size": 3}), max_invalid_calls=3)
    with pytest.raises(ValueError, match=r"tools\.Pair\.options: it takes no size"):
        load_tools(entries(file, "Pair", options={"size": 3}), max_invalid_calls=3)


def test_rows_without_the_column_that_a_class_needs(file: Path) -> None:
    environment = load_tools(entries(file, "Secret"), max_invalid_calls=3)
    config: Any = SimpleNamespace(tools=entries(file, "Secret"), graders={"environment": {"weight": 0.0}})
    with_secret = Task(id="a", messages=(), item={"secret": 3}, split=Split.TRAIN)
    tasks = [with_secret, *(replace(with_secret, id=each, item={"hint": 3}) for each in ("b", "c"))]
    [problem] = score_problems(config, environment, tasks)
    assert problem == (
        f"b: tools.Secret: the row has no column secret, which reset takes ({file}:87); add it to the rows, or give "
        "the parameter a default (and so for 2 of 3 tasks)"
    )
    assert score_problems(config, environment, tasks[:1]) == []
