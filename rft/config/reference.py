"""Reads every key of a configuration from the schema, with its type, default and meaning.

Help, `rft config`, tab completion and docs/configuration.md use this module.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rft.config.catalog import SCHEMAS
from rft.config.explain import METHOD, shown
from rft.config.presets import primary
from rft.grading.loading.keys import KEYS

GRADER = "graders.<name>"
NAMED = {
    "use": (
        "str or null",
        "The grader: the name of a built-in grader, or `path/to/file.py:function` or `package.module:function` for "
        "your own. Keys that are not listed here are its options, such as `graders.correct.tolerance=0.01`.",
    ),
    "openai": (
        "str or mapping or null",
        "Instead of `use`: an OpenAI grader file, or the content of such a file.",
    ),
    "style": (
        "str or null",
        "The system that calls the function, such as `trl` or `verl`; null if the function declares its system or "
        "exactly one style fits.",
    ),
}
"""Type and meaning of the keys that select a grader."""
KIND = "kind"
"""The key that distinguishes the members of a union. A preset sets it, so the reference omits it."""
BOUNDS = {"minimum": ">=", "ge": ">=", "exclusiveMinimum": ">", "gt": ">"}
LIMITS = {"maximum": "<=", "le": "<=", "exclusiveMaximum": "<", "lt": "<"}
NAMES = {"integer": "int", "number": "float", "string": "str", "boolean": "bool", "object": "mapping", "null": "null"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key.

    Example:
        Key(name="loop.steps", type="int >= 1", default="100", meaning="Optimizer steps.")
    """

    name: str
    """Full name, as on the command line."""
    type: str
    """Type in words."""
    default: str | None
    """Default in the notation of the command line; None if a value is required."""
    meaning: str
    """Meaning, in one paragraph."""
    values: tuple[str, ...] = ()
    """All allowed values, if they are few."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A group of keys: a section, or the keys that only some kinds of a section have.

    Example:
        Part(section="sampler", kinds=("vllm",), meaning="vLLM, on a CPU or on GPUs.", keys=(...,))
    """

    section: str
    """Name of the section; empty for the keys at the top."""
    kinds: tuple[str, ...] = ()
    """Kinds of the section that have these keys; empty if all kinds have them, or if there is only one."""
    meaning: str = ""
    """Meaning of the section, in one paragraph."""
    choices: tuple[tuple[str, str], ...] = ()
    """All kinds of the section, each with its meaning."""
    keys: tuple[Key, ...]
    """Keys in the order of the schema."""


@functools.cache
def reference(config_name: str) -> tuple[Part, ...]:
    """Return the keys of a command.

    Args:
        config_name: The command's primary file in `conf/`, without `.yaml`.
    """
    schema = SCHEMAS[config_name].model_json_schema()
    reader = _Reader(schema.get("$defs", {}), dict(_flat(primary(config_name))))
    return tuple(reader.parts(schema))


class _Reader:
    """Reads a JSON schema from pydantic.

    Args:
        definitions: The schemas of the sections, by class name.
        defaults: Defaults of the primary file in `conf/`, which override those of the schema.
    """

    def __init__(self, definitions: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
        self._definitions = definitions
        self._defaults = defaults

    def parts(self, schema: Mapping[str, Any]) -> Iterator[Part]:
        """Yield the keys at the top, then those of each section."""
        fields = {name: field for name, field in schema["properties"].items() if self._is_plain(field)}
        yield Part(section="", keys=tuple(self._keys(schema, "", fields)))
        for name, field in schema["properties"].items():
            if name == "graders":
                yield Part(section=GRADER, meaning=_paragraph(field), keys=tuple(_grader_keys()))
            elif name not in fields:
                yield from self._section(name, field)

    def _is_plain(self, field: Mapping[str, Any]) -> bool:
        return not self._members(field) and field.get("title") != "Graders"

    def _section(self, name: str, field: Mapping[str, Any]) -> Iterator[Part]:
        members = self._members(field)
        kinds = {member["properties"][KIND]["const"]: member for member in members if KIND in member["properties"]}
        if not kinds:
            (member,) = members
            meaning = _paragraph(field) or _paragraph(member)
            yield Part(section=name, meaning=meaning, keys=tuple(self._keys(member, name)))
            return
        having: dict[tuple[str, ...], dict[str, Any]] = {}
        for key, value in (item for member in members for item in member["properties"].items() if item[0] != KIND):
            of = tuple(kind for kind, member in kinds.items() if member["properties"].get(key) == value)
            having.setdefault(of, {})[key] = value
        choices = tuple((kind, _paragraph(member)) for kind, member in kinds.items())
        for of, keys in sorted(having.items(), key=lambda item: -len(item[0])):
            is_common = len(of) == len(kinds)
            yield Part(
                section=name,
                kinds=() if is_common else of,
                choices=choices if is_common else (),
                keys=tuple(self._keys(kinds[of[0]], name, keys)),
            )

    def _keys(self, schema: Mapping[str, Any], section: str, fields: Mapping[str, Any] | None = None) -> Iterator[Key]:
        """Yield the keys of a section and of its subsections."""
        for name, field in (schema["properties"] if fields is None else fields).items():
            key = f"{section}.{name}" if section else name
            members = self._members(field)
            is_null = {"type": "null"} in field.get("anyOf", ())
            meaning = _paragraph(field) or " ".join(_paragraph(member) for member in members)
            default = None if name in schema.get("required", ()) else _text(field.get("default"))
            if members:
                if is_null:
                    default = default if default == "null" else "as below"
                    yield Key(name=key, type="section or null", default=default, meaning=meaning)
                if len(members) > 1:
                    yield from self._keys_by_method(members, key)
                else:
                    yield from self._keys(members[0], key)
                continue
            if key in self._defaults:
                default = _text(self._defaults[key])
            values = tuple(_values(field))
            yield Key(name=key, type=_type(field), default=default, meaning=meaning, values=values)
            entry = field.get("additionalProperties")  # true for entries of any kind
            for member in self._members(entry) if isinstance(entry, Mapping) else ():
                yield from self._keys(member, f"{key}.<name>")

    def _keys_by_method(self, members: Sequence[Mapping[str, Any]], section: str) -> Iterator[Key]:
        """Yield the keys of a subsection with several methods or kinds: the method, and each key of some of them."""
        tag = METHOD if METHOD in members[0]["properties"] else KIND
        methods = {str(member["properties"][tag]["const"]): member["properties"] for member in members}
        meanings = [f"`{method}`: {_paragraph(member)}" for method, member in zip(methods, members, strict=True)]
        yield Key(
            name=f"{section}.{tag}",
            type=" | ".join(methods),
            default=next(iter(methods)),
            meaning=" ".join([f"The {tag}; `{section}=<{tag}>` selects it, too.", *meanings]),
            values=tuple(methods),
        )
        for name in dict.fromkeys(name for properties in methods.values() for name in properties if name != tag):
            having = [method for method, properties in methods.items() if name in properties]
            first, *others = self._variants(name, {method: methods[method] for method in having}, section)
            notes = [f"With {', '.join(of)} (default {key.default}): {key.meaning}" for of, key in others]
            yield replace(first[1], meaning=" ".join([f"Only of {', '.join(having)}.", first[1].meaning, *notes]))

    def _variants(
        self, name: str, methods: Mapping[str, Mapping[str, Any]], section: str
    ) -> list[tuple[list[str], Key]]:
        """Return the different forms of a key, each with the methods that have it in this form."""
        variants: list[tuple[list[str], Key]] = []
        for method, properties in methods.items():
            (key,) = self._keys({"properties": properties}, section, {name: properties[name]})
            known = next((of for of, other in variants if other == key), None)
            if known is None:
                variants.append(([method], key))
            else:
                known.append(method)
        return variants

    def _members(self, field: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """Return the schemas of the sections that a field may contain."""
        choices = [field, *field.get("anyOf", ()), *field.get("oneOf", ()), *field.get("allOf", ())]
        choices += [kind for choice in field.get("anyOf", ()) for kind in choice.get("oneOf", ())]  # kinds, or null
        return [self._definitions[choice["$ref"].rpartition("/")[2]] for choice in choices if "$ref" in choice]


def _grader_keys() -> Iterator[Key]:
    for name, (type_, meaning) in NAMED.items():
        yield Key(name=f"{GRADER}.{name}", type=type_, default="null", meaning=meaning)
    for name, key in KEYS.items():
        values = ("true", "false") if isinstance(key.default, bool) else ()
        yield Key(
            name=f"{GRADER}.{name}",
            type=key.type,
            default=_text(key.default),
            meaning=key.meaning,
            values=values,
        )


def _type(field: Mapping[str, Any]) -> str:
    choices = field.get("anyOf")
    if choices:
        return (" | " if any("enum" in choice for choice in choices) else " or ").join(map(_type, choices))
    if "enum" in field:
        return " | ".join(str(value) for value in field["enum"])
    kind = field.get("type", "")
    if kind == "array":
        return f"list of {_type(field['items'])}"
    name = NAMES.get(kind, "any value")
    bounds = [f"{sign} {field[name]:g}" for name, sign in (BOUNDS | LIMITS).items() if name in field]
    return " ".join([name, " and ".join(bounds)]).strip()


def _values(field: Mapping[str, Any]) -> Iterator[str]:
    for choice in field.get("anyOf", [field]):
        if "enum" in choice:
            yield from (str(value) for value in choice["enum"])
        elif choice.get("type") == "boolean":
            yield from ("true", "false")
        elif choice.get("type") == "null":
            yield "null"


def _text(value: Any) -> str:
    """Return a default in the notation of the command line."""
    if isinstance(value, list):
        return f"[{','.join(_text(item) for item in value)}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{name}:{_text(item)}" for name, item in value.items()) + "}"
    return re.sub(r"\$\{(\w+)(:[^}]*)?\}", lambda match: f"<{'time' if match[2] else match[1]}>", str(shown(value)))


def _paragraph(schema: Mapping[str, Any]) -> str:
    return " ".join(str(schema.get("description", "")).split())


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if name in ("defaults", "hydra"):
            continue
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
