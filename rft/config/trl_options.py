"""Which options TRL's `GRPOConfig` has, and of which types, read from their source.

Importing it would pull in torch, and a configuration is checked before anything heavy is imported.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_GRPO_CONFIG = (
    ("transformers", "training_args.py", "TrainingArguments"),
    ("trl", "trainer/base_config.py", "_BaseConfig"),
    ("trl", "trainer/grpo_config.py", "GRPOConfig"),
)


@dataclass(frozen=True, slots=True)
class TrlOption:
    """The allowed values of a TRL option.

    Example:
        TrlOption(types=frozenset({"float", "None"}), choices=())
    """

    types: frozenset[str]
    """Names of the types in its annotation: `int`, `float`, `bool`, `str`, `list`, `dict`, `None`."""
    choices: tuple[str, ...]
    """The only strings allowed, where it is an enumeration; empty elsewhere."""


@cache
def trl_options() -> Mapping[str, TrlOption]:
    """Return the fields of `GRPOConfig` and of its base classes, by name."""
    options: dict[str, TrlOption] = {}
    for package, file, class_name in _GRPO_CONFIG:
        for node in _class(package, file, class_name).body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                options[node.target.id] = _option(node.annotation)
    return {name: option for name, option in options.items() if not name.startswith("_")}


def _option(annotation: ast.expr) -> TrlOption:
    names = [_type_name(part) for part in _alternatives(annotation)]
    enumerations = _enumerations()
    choices = [choice for name in names for choice in enumerations.get(name, ())]
    return TrlOption(frozenset(names), tuple(choices))


def _alternatives(annotation: ast.expr) -> Iterator[ast.expr]:
    """The parts of `int | str | None`."""
    if isinstance(annotation, ast.BinOp):
        yield from _alternatives(annotation.left)
        yield from _alternatives(annotation.right)
    else:
        yield annotation


def _type_name(annotation: ast.expr) -> str:
    """`list` of `list[str]`, and the type of the value of `Literal[False]`."""
    if isinstance(annotation, ast.Subscript) and isinstance(annotation.value, ast.Name):
        inner = annotation.slice
        if annotation.value.id == "Literal" and isinstance(inner, ast.Constant):
            return type(inner.value).__name__
        return annotation.value.id
    return annotation.id if isinstance(annotation, ast.Name) else "None"


@cache
def _enumerations() -> Mapping[str, tuple[str, ...]]:
    """Return the values of Transformers' string enumerations for options."""
    enumerations = {}
    for file in ("trainer_utils.py", "training_args.py"):
        for node in _source("transformers", file).body:
            if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "ExplicitEnum" for base in node.bases):
                enumerations[node.name] = tuple(
                    str(each.value.value)
                    for each in node.body
                    if isinstance(each, ast.Assign) and isinstance(each.value, ast.Constant)
                )
    return enumerations


def _class(package: str, file: str, name: str) -> ast.ClassDef:
    body = _source(package, file).body
    return next(node for node in body if isinstance(node, ast.ClassDef) and node.name == name)


@cache
def _source(package: str, file: str) -> ast.Module:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{package} is not installed")
    return ast.parse((Path(spec.origin).parent / file).read_text(encoding="utf-8"))
