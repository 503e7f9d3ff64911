"""Reads YAML of folders that may come from another person: runs, adapters, sweeps, tasks of a harness.

An alias repeats a part of a file, and aliases of aliases repeat it exponentially: 400 bytes become ten billion values
("billion laughs"). Their number is therefore computed before any value is built. Files that users compose with Hydra
are their own, and are not limited.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from rft.errors import UsageError

MAX_BYTES = 2**20
"""Largest file that is read; the config.yaml of a run has 10 KB."""
MAX_UNFOLDED = 4 * 2**20
"""Most characters and values with every alias written out. A file without aliases has fewer."""


def read_yaml(file: Path, *, what: str) -> Any:
    """Return the plain values of a file.

    Args:
        file: The file.
        what: The subject of the error, such as `run`.

    Raises:
        UsageError: The file cannot be read, is no YAML, or is too large with or without its aliases.
    """
    return parse_yaml(content_of(file, what=what), where=str(file), what=what)


def content_of(file: Path, *, what: str) -> bytes:
    """Return the content of a file, up to one byte more than is allowed.

    Raises:
        UsageError: The file cannot be read.
    """
    try:
        with file.open("rb") as opened:
            return opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(what, [f"{file} cannot be read: {error.strerror or error}"]) from error


def parse_yaml(content: bytes, *, where: str, what: str) -> Any:
    """Return the plain values of a document; tags of Python objects are refused.

    Args:
        content: The document.
        where: Its place, for the error.
        what: The subject of the error.

    Raises:
        UsageError: The document is no YAML, or is too large with or without its aliases.
    """
    return _parsed(content, where=where, what=what, with_values=True)


def refuse_large_yaml(file: Path, *, what: str) -> None:
    """Refuse a file that another program will read, whose tags rft does not know.

    Raises:
        UsageError: The file cannot be read, is no YAML, or is too large with or without its aliases.
    """
    _parsed(content_of(file, what=what), where=str(file), what=what, with_values=False)


def _parsed(content: bytes, *, where: str, what: str, with_values: bool) -> Any:
    if len(content) > MAX_BYTES:
        raise UsageError(what, [f"{where} has more than {MAX_BYTES:,} bytes, the limit for YAML; it was not read"])
    try:
        loader = yaml.SafeLoader(content.decode("utf-8"))
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            if _unfolded(node, {}) > MAX_UNFOLDED:
                problem = f"{where} repeats itself by aliases to more than {MAX_UNFOLDED:,} values; it was not read"
                raise UsageError(what, [f"{problem}. Ask its sender for a file without aliases"])
            return loader.construct_document(node) if with_values else None
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(what, [f"{where} cannot be read: {' '.join(str(error).split())}"]) from error


def _unfolded(node: yaml.Node, known: dict[int, int]) -> int:
    """Return the number of values and characters of a node with every alias written out.

    Args:
        node: The node.
        known: The numbers of nodes that were counted before; 0 while one is being counted.

    Raises:
        ValueError: The node contains itself.
    """
    if isinstance(node, yaml.ScalarNode):
        return 1 + len(node.value)
    if (before := known.get(id(node))) is not None:
        if before == 0:
            raise ValueError("an alias leads to a value that contains it")
        return before
    known[id(node)] = 0
    parts = [each for pair in node.value for each in pair] if isinstance(node, yaml.MappingNode) else node.value
    known[id(node)] = 1 + sum(_unfolded(each, known) for each in parts)
    return known[id(node)]
