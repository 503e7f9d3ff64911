"""What pydantic found wrong, in words for the person who must fix it."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

UNIONS = ("sampler", "learner")
"""Sections with several kinds; pydantic puts the kind into the location of an error, the user's key has none."""


def key_of(location: Sequence[str | int]) -> str:
    """The dotted key that the user knows, as `sampler.engine`."""
    parts = [str(part) for part in location]
    if len(parts) > 2 and parts[0] in UNIONS:
        del parts[1]
    return ".".join(parts)


def explain(schema: type[BaseModel], error: ValidationError) -> list[str]:
    """One sentence for each thing wrong: what was given, what is allowed."""
    return [_sentence(schema, item) for item in error.errors()]


def _sentence(schema: type[BaseModel], item: Any) -> str:
    key = key_of(item["loc"])
    if item["type"] == "extra_forbidden":
        return _unknown(schema, item["loc"], key)
    if item["type"] == "missing":
        return f"{key} is missing: {_meaning(schema, item['loc'])}"
    if item["type"] == "union_tag_not_found":
        return f"{key} is missing: choose one with {key}=<preset>"
    message = item["msg"][:1].lower() + item["msg"][1:]
    return f"{key}={item['input']}: {message}"


def _unknown(schema: type[BaseModel], location: Sequence[str | int], key: str) -> str:
    section = _section(schema, location[:-1])
    if section is None:
        return f"{key} is unknown"
    prefix = key.rpartition(".")[0]
    allowed = [f"{prefix}.{name}" if prefix else name for name in section.model_fields]
    near = difflib.get_close_matches(key, allowed, n=1, cutoff=0.6) or _near_elsewhere(schema, key)
    hint = f"did you mean {near[0]}? " if near else ""
    where = f"in {prefix}" if prefix else "at the top"
    kind = f" of {location[0]}={location[1]}" if location[0] in UNIONS and len(location) > 2 else ""
    return f"{key} is unknown{kind}; {hint}Allowed {where}: {', '.join(section.model_fields)}"


def _near_elsewhere(schema: type[BaseModel], key: str) -> list[str]:
    """A key of the same name in another section."""
    last = key.rpartition(".")[2]
    for name, field in schema.model_fields.items():
        for section in _models(field.annotation):
            if last in section.model_fields:
                return [f"{name}.{last}"]
    return []


def _section(schema: type[BaseModel], location: Sequence[str | int]) -> type[BaseModel] | None:
    section: type[BaseModel] | None = schema
    parts = list(location)
    while parts and section is not None:
        name = str(parts.pop(0))
        field = section.model_fields.get(name)
        models = _models(field.annotation) if field else []
        if len(models) > 1 and parts:
            kind = str(parts.pop(0))
            models = [model for model in models if model.model_fields["kind"].default == kind]
        section = models[0] if models else None
    return section


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in typing.get_args(annotation) for model in _models(argument)]


def _meaning(schema: type[BaseModel], location: Sequence[str | int]) -> str:
    section = _section(schema, location[:-1])
    field = section.model_fields.get(str(location[-1])) if section else None
    return (field.description if field and field.description else "it must be given").rstrip()
