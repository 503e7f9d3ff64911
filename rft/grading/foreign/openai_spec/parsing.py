"""Parses a grader's JSON, and reports all problems with their JSON paths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from rft.grading.foreign.openai_spec.faults import SpecError
from rft.grading.foreign.openai_spec.formula import FUNCTIONS, Formula, is_key
from rft.grading.foreign.openai_spec.spec import CONTENT_FORMS, REFUSED_KEYS, TYPES, Grader
from rft.grading.foreign.openai_spec.templates import Template
from rft.grading.loading.targets import did_you_mean
from rft.wording import expectation


def parse_grader(source: Any, path: str = "$") -> Grader:
    """Parse a grader's JSON.

    Args:
        source: The object.
        path: Its JSON path, for messages.

    Raises:
        SpecError: The object is invalid; the message lists all problems.
    """
    problems: list[str] = []
    grader = _parse(source, path, "", problems)
    if grader is None or problems:
        raise SpecError(problems)
    return grader


def templates_of(value: Any) -> list[Template]:
    """Return all templates of a grader, including those of a multi grader's graders."""
    if isinstance(value, Template):
        return [value]
    if isinstance(value, BaseModel):
        return [template for name in type(value).model_fields for template in templates_of(getattr(value, name))]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [template for nested in inner for template in templates_of(nested)]


def _parse(source: Any, path: str, key: str, problems: list[str]) -> Grader | None:
    if not isinstance(source, Mapping):
        problems.append(f"{path}: {source!r:.80} is not a JSON object")
        return None
    kind = source.get("type")
    if not isinstance(kind, str) or kind not in TYPES:
        what = (
            f"{kind!r:.80} is not a type of grader{did_you_mean(str(kind), TYPES)}" if "type" in source else "missing"
        )
        problems.append(f"{path}.type: {what}; the types are {', '.join(TYPES)}")
        return None
    if kind == "multi" and key:
        problems.append(f"{path}.type: a multi grader cannot contain a multi grader; use calculate_output")
        return None
    fields = dict(source) | {"name": source.get("name", key or kind)}
    if kind == "multi":
        fields = _with_parts(fields, path, problems)
    try:
        return TYPES[kind].model_validate(fields)
    except ValidationError as error:
        problems += _in_words(error, TYPES[kind], fields, path)
        return None


def _with_parts(fields: dict[str, Any], path: str, problems: list[str]) -> dict[str, Any]:
    """Parse the graders of a multi grader, and check its formula against their keys."""
    graders = fields.get("graders")
    if isinstance(graders, list):
        names = [grader.get("name") if isinstance(grader, Mapping) else None for grader in graders]
        named = {name: grader for name, grader in zip(names, graders, strict=True) if isinstance(name, str)}
        if len(named) != len(graders):
            problems.append(f"{path}.graders: in a list each grader needs a unique name; or use an object")
        graders = named
    if not isinstance(graders, Mapping):
        return fields
    for key in graders:
        if not is_key(str(key)):
            what = "is a function" if key in FUNCTIONS else "is not a name of letters, digits and '_'"
            problems.append(f"{path}.graders.{key}: '{key}' {what}, so calculate_output cannot refer to it")
    parsed = {str(key): _parse(grader, f"{path}.graders.{key}", str(key), problems) for key, grader in graders.items()}
    fields["graders"] = {
        key: grader or Grader(type="") for key, grader in parsed.items()
    }  # a placeholder: the problems are reported
    try:
        used = Formula.parse(str(fields["calculate_output"])).names()
    except (SpecError, KeyError):
        return fields  # reported when the field is parsed
    for name, position in used.items():
        if name not in parsed:
            known = f"{did_you_mean(name, parsed)}; the graders are {', '.join(parsed)}"
            problems.append(f"{path}.calculate_output: character {position}: there is no grader '{name}'{known}")
    return fields


def _in_words(error: ValidationError, model: type[BaseModel], fields: Mapping[str, Any], path: str) -> list[str]:
    problems: list[str] = []
    for detail in error.errors(include_url=False):
        where = _json_path(path, detail["loc"], fields)
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, SpecError):
            problems += [f"{where}: {problem}" for problem in cause.problems]
        elif isinstance(cause, ValueError):
            problems.append(f"{where}: {cause}")
        elif detail["type"] == "missing":
            problems.append(f"{where}: missing")
        elif detail["type"] == "extra_forbidden" and (reason := REFUSED_KEYS.get(str(detail["loc"][-1]))):
            problems.append(f"{where}: {reason}")
        elif detail["type"] == "extra_forbidden":
            known = list(model.model_fields) if len(detail["loc"]) == 1 else []
            takes = f"; the keys are {', '.join(known)}" if known else ""
            problems.append(f"{where}: unknown key{did_you_mean(str(detail['loc'][-1]), known)}{takes}")
        elif detail["type"].startswith("union_tag"):
            problems.append(
                f"{where}: expected a text, or blocks of type input_text, output_text, input_image, input_audio"
            )
        else:
            given = "" if "headers" in detail["loc"] else f"{detail['input']!r:.80}: "
            problems.append(f"{where}: {given}{expectation(detail)}")
    return problems


def _json_path(path: str, steps: tuple[int | str, ...], value: Any) -> str:
    """Return a problem's path without the form of a message's content, which pydantic adds."""
    for step in steps:
        if isinstance(step, int):
            path += f"[{step}]"
            value = value[step] if isinstance(value, list) and step < len(value) else None
        elif step not in CONTENT_FORMS or (isinstance(value, Mapping) and (step in value or step == "text")):
            path += f".{step}"
            value = value.get(step) if isinstance(value, Mapping) else None
    return path
