"""Finds the function or dataclass that `use` names."""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from rft.grading.loading.importing import watched_import
from rft.grading.normalise import describe_error, shown_path

BUILT_IN: Mapping[str, str] = {
    "abstains": "graders.abstains:Abstains",
    "cites": "graders.cites:Cites",
    "claims": "graders.claims:Claims",
    "code_tests": "graders.code_tests:CodeTests",
    "composite": "graders.composite:Composite",
    "constraints": "graders.constraints:Constraints",
    "contains": "graders.contains:Contains",
    "embedding": "graders.embedding:Embedding",
    "endpoint": "graders.endpoint:Endpoint",
    "environment": "graders.environment:Environment",
    "exact": "graders.exact:Exact",
    "format": "graders.pattern:Pattern",
    "ifeval": "graders.ifeval:IFEval",
    "json_match": "graders.json_match:JsonMatch",
    "json_schema": "graders.json_schema:JsonSchema",
    "judge": "graders.judge:Judge",
    "length": "graders.length:Length",
    "math": "graders.math_answer:Math",
    "multiple_choice": "graders.multiple_choice:MultipleChoice",
    "numeric": "graders.numeric:Numeric",
    "pattern": "graders.pattern:Pattern",
    "quotes": "graders.quotes:Quotes",
    "reasoning_gym": "graders.reasoning_gym_score:ReasoningGym",
    "repetition": "graders.repetition:Repetition",
    "reward_model": "graders.reward_model:RewardModel",
    "sql": "graders.sql_result:SqlResult",
    "supported": "graders.supported:Supported",
    "text_similarity": "graders.text_similarity:TextSimilarity",
}
"""The built-in graders and their places. A grader is imported when it is used."""

_MODULE = re.compile(r"\w+(\.\w+)+")


@dataclass(frozen=True, slots=True)
class Target:
    """The target of `use`."""

    object: Any
    """The function or the dataclass."""
    file: str
    """The absolute path of its file."""
    sha256: str
    """SHA-256 of the file."""


def find_target(use: str) -> Target:
    """Import the target of `use`: a built-in grader, `path/to/file.py:name` relative to the working directory, or
    `package.module:name`.

    Raises:
        ValueError: The grader, file or name does not exist, or the file cannot be imported.
    """
    path, _, name = use.rpartition(":")
    if path.endswith(".py"):
        module = import_file(Path(path))
    elif use in BUILT_IN:
        module_name, _, name = BUILT_IN[use].partition(":")
        module = importlib.import_module(module_name)
    elif _MODULE.fullmatch(path):
        module = _import_module(path)
    else:
        near = f"; name the grader in it, as {use}:function" if use.endswith(".py") else did_you_mean(use, BUILT_IN)
        raise ValueError(
            f"there is no grader '{use}'{near}; the built-in ones are {', '.join(BUILT_IN)}, "
            f"or name your own as path/to/file.py:function, or as package.module:function"
        )
    file = str(module.__file__)
    if name not in vars(module):
        defined = [key for key, value in vars(module).items() if _is_defined_in(value, module)]
        raise ValueError(
            f"{shown_path(file)} has no '{name}'{did_you_mean(name, defined)}; it has: {', '.join(defined)}"
        )
    return Target(vars(module)[name], file, _sha256(Path(file)))


def _import_module(name: str) -> ModuleType:
    """Import a module of an installed package.

    Raises:
        ValueError: It does not exist, or importing it fails.
    """
    with watched_import(Path(name)) as watch:
        try:
            return importlib.import_module(name)
        except BaseException as error:
            if watch.interrupted:
                raise
            if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
                raise ValueError(f"there is no module '{error.name}'; is its package installed?") from error
            raise ValueError(_why_not_imported(error, Path(name))) from error


def import_file(path: Path) -> ModuleType:
    """Import a user's file under a unique name; it can import the modules beside it.

    A file is imported once for each content. A file with relative imports is imported as part of its package, under its
    name there.

    Raises:
        ValueError: The file does not exist, or importing it fails.
    """
    path = path.expanduser().resolve()
    if not os.path.isfile(path):  # unlike Path.is_file, it does not raise for names that are too long
        raise ValueError(f"the file {shown_path(str(path))} does not exist (working directory: {Path.cwd()})")
    is_in_package = (path.parent / "__init__.py").is_file()
    if is_in_package and any(name.startswith(".") for name in imported_modules(path)):
        return _import_from_package(path)
    identity = hashlib.sha256(f"{path} {_sha256(path)}".encode()).hexdigest()
    name = f"rft_grader_{path.stem}_{identity[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    # At the end of the path: a user's datasets.py, for example, must not hide the library.
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path, loader=_FileLoader(name, str(path)))
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    with watched_import(path) as watch:
        try:
            spec.loader.exec_module(module)
        except BaseException as error:
            del sys.modules[name]
            if watch.interrupted:
                raise
            raise ValueError(_why_not_imported(error, path)) from error
    return module


class _FileLoader(SourceFileLoader):
    """Compiles a file at each import, and leaves no `__pycache__` beside it.

    Python's own cache takes a file that was changed within the same second to another content of equal length for the
    old one.
    """

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def imported_modules(path: Path) -> set[str]:
    """Return the names of all modules that a file imports anywhere in its code; relative names begin with a dot."""
    try:
        nodes = list(ast.walk(ast.parse(path.read_bytes())))
    except (SyntaxError, ValueError):
        return set()  # the import of the file reports the error
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return names | {"." * node.level + (node.module or "") for node in nodes if isinstance(node, ast.ImportFrom)}


def _import_from_package(path: Path) -> ModuleType:
    """Import a file as a module of its package, whose folders contain an `__init__.py`."""
    root = path.parent
    while (root.parent / "__init__.py").is_file():
        root = root.parent
    name = ".".join(path.relative_to(root.parent).with_suffix("").parts)
    if str(root.parent) not in sys.path:
        sys.path.append(str(root.parent))
    with watched_import(path) as watch:
        try:
            module = importlib.import_module(name)
        except BaseException as error:
            if watch.interrupted:
                raise
            why = _why_not_imported(error, path)
            raise ValueError(f"{why} (imported as {name}, for its relative imports)") from error
    imported = str(module.__file__)
    if Path(imported).resolve() != path:
        raise ValueError(
            f"it belongs to the package '{root.name}', and another package of this name is imported: "
            f"{shown_path(imported)}; name the file there, or rename the folder {shown_path(str(root))}"
        )
    return module


def _why_not_imported(error: BaseException, path: Path) -> str:
    if isinstance(error, SyntaxError):
        return f"{shown_path(error.filename or str(path))}:{error.lineno}: syntax error: {error.msg}"
    return f"importing it failed: {describe_error(error, str(path))}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'numeric'?)`, or an empty text if no known word is similar."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""


def _is_defined_in(value: Any, module: ModuleType) -> bool:
    return (inspect.isfunction(value) or inspect.isclass(value)) and value.__module__ == module.__name__


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
