"""The syntax trees of source files. Each file is parsed once in each test process; parsing all takes a second."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

STATEMENTS = (ast.stmt, ast.excepthandler, ast.match_case)
"""Nodes that may contain statements."""


@functools.cache
def parsed(file: Path) -> ast.Module:
    """Return the syntax tree of a file. Nobody may change it."""
    return ast.parse(file.read_text(encoding="utf-8"))


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield all statements below a node at any depth, without their expressions, of which there are ten times more."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, STATEMENTS):
            yield node
            yield from statements(node)
