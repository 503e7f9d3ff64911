"""The JSON Schema of a function from its types and its docstring, and the check of arguments against it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import Any, get_args, get_type_hints
from unittest.mock import patch

REMEDY = "give every parameter a type, and the function a docstring with its meaning and a section 'Args:'"
_TYPES = (int, float, str, bool, list, tuple, dict, type(None), Any)
"""Types, without their parameters, that a model can write as JSON."""


def schema_of(function: Callable[..., Any], *, name: str, hidden: Collection[str]) -> tuple[str, dict[str, Any]]:
    """Return the description and the parameters of a function, as Transformers reads them.

    Args:
        function: A function or method with types and a docstring in Google's style.
        name: Its name for the model.
        hidden: Parameters that rft passes itself.

    Raises:
        ValueError: A type or a part of the docstring is missing, with the remedy.
    """
    from transformers.utils import chat_template_utils as theirs

    try:
        shown = _shown(function, name, hidden)
        # Transformers would import torch to recognize its tensors, which no model can write.
        with patch.object(theirs, "is_torch_available", return_value=False):
            schema = theirs.get_json_schema(shown)["function"]
    except NameError as error:
        raise ValueError(f"a type of {name} cannot be found: {error}; import it in the file of the tool") from error
    except (theirs.DocstringParsingException, theirs.TypeHintParsingException) as error:
        raise ValueError(f"{str(error).rstrip('!')}; {REMEDY}") from error
    return str(schema["description"]), dict(schema["parameters"])


def _shown(function: Callable[..., Any], name: str, hidden: Collection[str]) -> Callable[..., Any]:
    """Return a function without hidden parameters, for the reader of schemas only."""

    def shown() -> None:
        """Replaced below."""

    signature = inspect.signature(function)
    types = get_type_hints(function)
    parameters = [each for each in signature.parameters.values() if each.name not in {*hidden, "self"}]
    for each in parameters:
        if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD, each.POSITIONAL_ONLY):
            raise ValueError(f"{name} takes {each}, which a model cannot pass by name; name every parameter")
        _require_type(types.get(each.name), f"the parameter {each.name} of {name}")
    shown.__name__, shown.__doc__ = name, inspect.getdoc(function)
    shown.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    shown.__annotations__ = {each.name: types[each.name] for each in parameters if each.name in types}
    return shown


def _require_type(hint: Any, what: str) -> None:
    """Refuse a class of the user's, which a model cannot write."""
    if isinstance(hint, type) and not get_args(hint) and hint not in _TYPES:
        raise ValueError(f"{what} has the type {hint.__name__}, which a model cannot write; use JSON's types")
    for part in get_args(hint):
        if isinstance(part, type):
            _require_type(part, what)


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
