"""The syntax trees of source files. Each file is parsed once in each test process; parsing all takes a second."""

from __future__ import annotations

import ast
import functools
from pathlib import Path


@functools.cache
def parsed(file: Path) -> ast.Module:
    """Return the syntax tree of a file. Nobody may change it."""
    return ast.parse(file.read_text(encoding="utf-8"))
