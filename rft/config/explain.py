"""Turns pydantic's validation errors into messages for the user."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from rft.config.adapters import METHODS
from rft.config.tools import ToolConfig
from rft.redaction import redacted
from rft.wording import expectation, listed

KIND, METHOD = "kind", "method"
"""Keys that distinguish the classes of a section."""
UNIONS = ("sampler", "learner", "cluster", "retrieval", "embedder")
"""Sections with several kinds. Pydantic includes the kind in the location of an error; the user's key does not."""
ADAPTER = ["learner", "adapter"]
"""A section with several methods inside another section. An error's location includes kind and method."""
TOOLS = "tools"
"""A section of entries with names that the user chooses."""
EMBEDDER = ["retrieval", "embedder"]
"""A section with several kinds inside another section."""
SPLITS = ("train", "validation", "test", "tasks", "completions")
"""Names of task files in the section `data` of one command or another."""


def key_of(location: Sequence[str | int]) -> str:
    """Return the dotted key that the user writes, such as `sampler.engine`."""
    parts = [str(part) for part in location]
    if len(parts) > 2 and parts[0] in UNIONS:
        del parts[1]
    if len(parts) > 3 and parts[:2] in (ADAPTER, EMBEDDER):
        del parts[2]
    return ".".join(parts)


def explain(schema: type[BaseModel], error: ValidationError) -> list[str]:
    """Return one sentence for each error, with the given value and the allowed values."""
    return [_sentence(schema, item) for item in error.errors()]


def _sentence(schema: type[BaseModel], item: Any) -> str:
    key = key_of(item["loc"])
    if item["type"] == "extra_forbidden":
        return _unknown(schema, item["loc"], key)
    if item["type"] == "missing":
        return f"{key} is missing: {_meaning(schema, item['loc'])}"
    if item["type"] == "union_tag_not_found":
        return f"{key} is missing: choose one with {key}=<preset>"
    if item["type"] == "union_tag_invalid":
        tag = item["ctx"]["discriminator"].strip("'")
        given, allowed = shown(item["input"][tag]), item["ctx"]["expected_tags"]
        if tag == METHOD:
            hint = "; QLoRA is learner.base=nf4 with learner.adapter=lora" if given == "qlora" else ""
            return f"{key}={given}: should be one of {allowed}{hint}"
        return f"{key}.{tag}={given}: should be one of {allowed}; select it with {key}=<preset>"
    if item["type"] in ("model_type", "model_attributes_type", "dict_type") and item["loc"][0] == TOOLS:
        return f"{key}={shown(item['input'])}: {_entry_of_tools(item['loc'][1:], item['input'])}"
    if item["type"] in ("model_type", "model_attributes_type"):
        return f"{key}={shown(item['input'])}: this is a section; set its keys with {key}.<name>=<value>"
    given = shown(redacted({key.rpartition(".")[2]: item["input"]}).popitem()[1])
    return f"{key}={given}: {expectation(item)}{_remedy(schema, item, key)}"


def _entry_of_tools(place: Sequence[str | int], given: Any) -> str:
    """Return how to write an entry of `tools` that lacks its name or its key."""
    key = str(place[0]) if place else "use"
    value = shown(given)
    named = value.rpartition(":")[2]
    name = named if ".py:" in value and named.isidentifier() else "<name>"
    if place and key not in ToolConfig.model_fields:
        return f"an entry of {TOOLS} has keys; write {TOOLS}.{key}.use={value}"
    return f"an entry of {TOOLS} has a name, by which the policy calls the tool; write {TOOLS}.{name}.{key}={value}"


def _remedy(schema: type[BaseModel], item: Any, key: str) -> str:
    """Return the correct notation, if the error implies one."""
    given = item["input"]
    if item["type"] == "list_type" and isinstance(given, str):
        return f"; write [{given}]"
    if item["type"] == "dict_type" and key.startswith("graders."):
        return f"; write {key}.use=<grader>" if not isinstance(given, str) else f"; write {key}.use={given}"
    if _is_off(given) and (field := _field(schema, item["loc"])) and type(None) in typing.get_args(field.annotation):
        return f"; to turn it off, write {key}=null"
    return ""


def _is_off(value: Any) -> bool:
    """Whether the value is a common way to switch something off."""
    return value in (0, "", "off", "none", "None", "no", "never")  # false is 0


def shown(value: Any) -> str:
    """Return a value in the notation of YAML and the command line: null, true."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _unknown(schema: type[BaseModel], location: Sequence[str | int], key: str) -> str:
    section = _section(schema, location[:-1])
    if section is None:
        return f"{key} is unknown"
    prefix = key.rpartition(".")[0]
    names = [name for name in section.model_fields if name not in (KIND, METHOD)]
    allowed = {name: f"{prefix}.{name}" if prefix else name for name in names}
    where = f"in {prefix}" if prefix else "at the top"
    kind = f" for {location[0]}={location[1]}" if location[0] in UNIONS and len(location) > 2 else ""
    if is_of_adapter := prefix == ".".join(ADAPTER):
        kind = f" for {prefix}={location[3]}"
    last = key.rpartition(".")[2]
    if others := _other_methods(last) if is_of_adapter else _other_kinds(schema, location):
        hint = f"it belongs to {listed(others)}; remove it with ~{key}. "
    elif prefix == "data" and last in SPLITS:
        hint = f"did you mean {allowed[names[0]]}? "
    elif near := difflib.get_close_matches(last, names, n=1):
        hint = f"did you mean {allowed[near[0]]}? "
    elif elsewhere := _near_elsewhere(schema, key):
        hint = f"did you mean {elsewhere[0]}? "
    else:
        hint = ""
    return f"{key} is unknown{kind}; {hint}Allowed {where}: {', '.join(names)}"


def _other_kinds(schema: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """Return the other kinds of the section that have the key, such as `sampler=vllm`."""
    if location[0] not in UNIONS or len(location) != 3:
        return []
    kinds = _models(schema.model_fields[str(location[0])].annotation)
    return [f"{location[0]}={kind.model_fields['kind'].default}" for kind in kinds if location[2] in kind.model_fields]


def _other_methods(name: str) -> list[str]:
    """Return the methods of `learner.adapter` that have the key, such as `learner.adapter=vera`."""
    prefix = ".".join(ADAPTER)
    return [f"{prefix}={method}" for method, config in METHODS.items() if name in config.model_fields]


def _near_elsewhere(schema: type[BaseModel], key: str) -> list[str]:
    """Return a key with the same name in another section."""
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
        if field and typing.get_origin(field.annotation) is dict and models and parts:
            parts.pop(0)  # the name that the user gives the section
        if (len(models) > 1 or name in UNIONS) and parts:
            kind = str(parts.pop(0))
            models = [model for model in models if _tag_of(model) == kind]
        section = models[0] if models else None
    return section


def _tag_of(model: type[BaseModel]) -> Any:
    """Return the kind or the method of a class that is one of several in its section."""
    return next(model.model_fields[tag].default for tag in (KIND, METHOD) if tag in model.model_fields)


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in typing.get_args(annotation) for model in _models(argument)]


def _field(schema: type[BaseModel], location: Sequence[str | int]) -> FieldInfo | None:
    section = _section(schema, location[:-1])
    return section.model_fields.get(str(location[-1])) if section else None


def _meaning(schema: type[BaseModel], location: Sequence[str | int]) -> str:
    field = _field(schema, location)
    return (field.description if field and field.description else "a value is required").rstrip()
