"""Every wait has a name and a deadline (`rft.waiting`); the others are listed here with the reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENDLESS = {"wait", "join", "get", "result", "acquire"}
"""Methods that wait without limit if they are called without arguments."""
BOUNDED = {"wait_for", "blocking", "within", "ask", "ask_ranks"}
"""Functions that bound the waits among their arguments."""

WITHOUT_DEADLINE: dict[str, str] = {}
"""Waits without a deadline of their own, and why they end."""


def waits_in(file: Path) -> Iterator[str]:
    """`rft/run/emitter.py: self._events.get()` for each wait of a file without a deadline."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    bounded: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _name(node) in BOUNDED:
            bounded |= {inner for argument in node.args for inner in ast.walk(argument)}
    for node in ast.walk(tree):
        if node not in bounded and (call := _endless(node)) is not None:
            yield f"{file.relative_to(ROOT)}: {ast.unparse(call)}"


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _endless(node: ast.AST) -> ast.Call | None:
    """The call of a wait that may never end: of a lock, a queue, a future, other tasks, or an actor."""
    if isinstance(node, ast.Await) and isinstance(node.value, ast.Call) and _name(node.value) == "remote":
        return node.value
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return None
    owner = ast.unparse(node.func.value)
    if node.func.attr in ENDLESS and not node.args and not node.keywords:
        return node
    takes_timeout = (owner, node.func.attr) in {("asyncio", "wait"), ("ray", "get"), ("ray", "wait")}
    return node if takes_timeout and not any(keyword.arg == "timeout" for keyword in node.keywords) else None


def test_waits_without_a_deadline_are_known() -> None:
    found = {wait for file in sorted(ROOT.glob("rft/**/*.py")) for wait in waits_in(file)}
    assert found == set(WITHOUT_DEADLINE)
