"""The JSON Schema of a function from its types and its docstring, and the check of arguments against it."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, get_args, get_type_hints
from unittest.mock import patch

from rft.grading.normalise import shown_path

_TYPES = (int, float, str, bool, list, tuple, dict, type(None), Any)
"""Types, without their parameters, that a model can write as JSON."""
_JSON = "str, int, float, bool, list[...] or dict[...]"


class NoSchema(ValueError):
    """A function that a model cannot be told of.

    Args:
        problems: One sentence each.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def schema_of(function: Callable[..., Any], *, name: str, hidden: Collection[str]) -> tuple[str, dict[str, Any]]:
    """Return the description and the parameters of a function, as Transformers reads them.

    Args:
        function: A function or method with types and a docstring in Google's style.
        name: Its name for the model.
        hidden: Parameters that rft passes itself.

    Raises:
        NoSchema: A type or a part of the docstring is missing; with all problems, and what to write.
    """
    place, what = place_of(function), getattr(function, "__name__", name)
    try:
        types = get_type_hints(function)
    except NameError as error:
        raise NoSchema(
            [f"{place}: a type of {what} cannot be found: {error}; import it in the file of the tool"]
        ) from error
    shown = _shown(function, name, hidden, types)
    documentation = (inspect.getdoc(function) or "").strip()
    described = _described(documentation) if documentation else {}
    if problems := [*_type_problems(shown, what), *_docstring_problems(shown, what, described)]:
        raise NoSchema([f"{place}: {problem}" for problem in problems])
    from transformers.utils import chat_template_utils as theirs  # takes seconds, so mistakes are told before

    try:
        # Transformers would import torch to recognize its tensors, which no model can write.
        with patch.object(theirs, "is_torch_available", return_value=False):
            schema = theirs.get_json_schema(shown)["function"]
    except theirs.TypeHintParsingException as error:
        raise NoSchema([f"{place}: a type of {what} is none that a model can write; use {_JSON}"]) from error
    except (theirs.DocstringParsingException, json.JSONDecodeError) as error:
        raise NoSchema([f"{place}: the docstring of {what} cannot be read: {str(error).rstrip('!')}"]) from error
    return str(schema["description"]), dict(schema["parameters"])


def _described(documentation: str) -> Mapping[str, str]:
    """Return the meaning of each parameter that a docstring explains."""
    from transformers.utils import chat_template_utils as theirs

    _, described, _ = theirs.parse_google_format_docstring(documentation)
    return described or {}


def place_of(function: Callable[..., Any]) -> str:
    """Return file and line of a function, such as `my_tools.py:3`."""
    plain = inspect.unwrap(function)
    file = inspect.getsourcefile(plain) or "?"
    try:
        lines, first = inspect.getsourcelines(plain)
    except OSError:  # the file has changed since its import
        return shown_path(file)
    after_decorators = next((n for n, line in enumerate(lines) if re.match(r"\s*(async\s+)?def\b", line)), 0)
    return f"{shown_path(file)}:{first + after_decorators}"


def _shown(
    function: Callable[..., Any], name: str, hidden: Collection[str], types: Mapping[str, Any]
) -> Callable[..., Any]:
    """Return a function without hidden parameters, for the reader of schemas only."""

    def shown() -> None:
        """Replaced below."""

    signature = inspect.signature(function)
    parameters = [each for each in signature.parameters.values() if each.name not in {*hidden, "self"}]
    shown.__name__, shown.__doc__ = name, inspect.getdoc(function)
    shown.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    shown.__annotations__ = {each.name: types[each.name] for each in parameters if each.name in types}
    return shown


def _type_problems(shown: Callable[..., Any], what: str) -> Iterator[str]:
    """Yield what is wrong with the parameters."""
    for each in inspect.signature(shown).parameters.values():
        if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD, each.POSITIONAL_ONLY):
            yield f"{what} takes {each}, which a model cannot pass by name; name every parameter"
        elif each.name not in shown.__annotations__:
            yield f'the parameter {each.name} of {what} has no type; write "{_typed(each)}", or another of {_JSON}'
        elif own := _own_type(shown.__annotations__[each.name]):
            yield (
                f"the parameter {each.name} of {what} has the type {own.__name__}, which a model cannot write; use "
                f"{_JSON}"
            )


def _typed(parameter: inspect.Parameter) -> str:
    """Return a parameter with a type: that of its default, or a text."""
    if parameter.default is parameter.empty:
        return f"{parameter.name}: str"
    kind = type(parameter.default)
    return f"{parameter.name}: {kind.__name__ if kind in _TYPES[:4] else 'str'} = {parameter.default!r}"


def _docstring_problems(shown: Callable[..., Any], what: str, described: Mapping[str, str]) -> Iterator[str]:
    """Yield what is missing in the docstring."""
    doc, names = (shown.__doc__ or "").strip(), list(inspect.signature(shown).parameters)
    missing = [name for name in names if name not in described]
    lines = " and ".join(f'"{name}: <its meaning>"' for name in missing)
    if not doc:
        section = f', and give it a section "Args:" with {lines}' if lines else ""
        yield (
            f"{what} has no docstring, from which the model learns what it does; begin its body with "
            f'"""<What it does.>"""{section}'
        )
    elif missing and (typed := [name for name in missing if re.search(rf"^\s*{name}\s*\(.*\):", doc, re.MULTILINE)]):
        yield (
            f"the docstring of {what} gives {', '.join(typed)} a type in brackets; write the type in the signature "
            f'alone, and "{typed[0]}: <its meaning>" in the docstring'
        )
    elif missing:
        section = "its section" if re.search(r"^\s*Args:", doc, re.MULTILINE) else "a section"
        yield f'the docstring of {what} does not explain {", ".join(missing)}; add {lines} in {section} "Args:"'


def _own_type(hint: Any) -> type | None:
    """Return a class of the user's in a type, which a model cannot write; None without one."""
    if isinstance(hint, type) and not get_args(hint) and hint not in _TYPES:
        return hint
    return next((own for part in get_args(hint) if isinstance(part, type) and (own := _own_type(part))), None)


def schema_problem(parameters: Mapping[str, Any]) -> str:
    """Return why arguments cannot be checked against a schema; an empty text if they can.

    Args:
        parameters: JSON Schema of a tool's arguments, from somebody else.
    """
    import jsonschema
    from referencing import Registry, Resource
    from referencing.jsonschema import DRAFT202012, UnknownDialect

    kind = jsonschema.validators.validator_for(parameters, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(parameters)
        resource = Resource.from_contents(dict(parameters), default_specification=DRAFT202012)
    except jsonschema.SchemaError as error:
        return f"{error.json_path}: {error.message[:200]}"
    except UnknownDialect as error:
        return f"its $schema is {error.uri}, which no validator knows"
    broken = _broken_references(Registry().with_resource("", resource).resolver(""), resource)
    return f'"$ref": "{broken[0]}" leads nowhere in the schema' if broken else ""


def _broken_references(resolver: Any, resource: Any) -> list[str]:
    """Return the references of a schema that cannot be resolved without a download."""
    from referencing.exceptions import Unresolvable

    broken = []
    if isinstance(resource.contents, Mapping) and (reference := resource.contents.get("$ref")) is not None:
        try:
            resolver.lookup(reference)
        except Unresolvable:
            broken.append(str(reference))
    for part in resource.subresources():
        broken += _broken_references(resolver.in_subresource(part), part)
    return broken


def argument_problem(arguments: Mapping[str, Any], parameters: Mapping[str, Any]) -> str:
    """Return why arguments do not follow the schema of a tool; an empty text if they do."""
    error = min(_validator(_Key(parameters)).iter_errors(dict(arguments)), key=lambda each: each.path, default=None)
    if error is None:
        return ""
    place = error.json_path.removeprefix("$").lstrip(".")
    return f"{place}: {error.message[:200]}" if place else str(error.message[:200])


class _Key:
    """A schema that a cache finds by identity."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self.parameters = parameters

    def __hash__(self) -> int:
        return id(self.parameters)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other.parameters is self.parameters


@cache
def _validator(key: _Key) -> Any:
    import jsonschema
    from referencing import Registry

    strict = {"additionalProperties": False, **_with_null(dict(key.parameters))}
    # An empty registry: a schema with an external reference must not trigger a download.
    return jsonschema.validators.validator_for(strict, default=jsonschema.Draft202012Validator)(
        strict, registry=Registry()
    )


def _with_null(schema: Any) -> Any:
    """Return a schema in which `nullable`, as Transformers writes it, is JSON Schema."""
    if isinstance(schema, list):
        return [_with_null(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {key: _with_null(value) for key, value in schema.items() if key != "nullable"}
    return {"anyOf": [changed, {"type": "null"}]} if schema.get("nullable") is True else changed
