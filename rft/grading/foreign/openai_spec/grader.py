"""An OpenAI grader as a grader of rft."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rft.grading.foreign.openai_spec.faults import SpecError
from rft.grading.foreign.openai_spec.outcome import Case, Outcome, Services
from rft.grading.foreign.openai_spec.sample import sample_of_completion
from rft.turns import calls_of
from rft.types import Rollout, Score, Status, Task

if TYPE_CHECKING:
    from rft.grading.foreign.openai_spec.spec import Grader

_REASON_CHARS = 1000


@dataclass(frozen=True, kw_only=True)
class OpenAIGrader:
    """Grades completions with an OpenAI grader; `load_openai` makes one."""

    spec: Grader
    """The checked grader."""
    response_format: Mapping[str, Any] | None = None
    """The required format of answers; with it, graders can read `sample.output_json`."""
    services: Services = field(default_factory=Services, repr=False, compare=False)
    """Judge, sandbox and other services."""

    async def grade(self, completion: str, task: Task, rollout: Rollout) -> Score:
        """Grade one completion."""
        from rft.grading.foreign.openai_spec.evaluate import evaluate

        calls = calls_of(rollout.turns)
        sample = sample_of_completion(completion, stop=rollout.stop, response_format=self.response_format, calls=calls)
        case = Case(sample=sample.as_dict(), item=task.item, trace_id=f"{task.id}-{rollout.index}")
        outcome = await evaluate(self.spec, case, self.services, sample.fault)
        return to_score(outcome, answer=sample.output_text)


def to_score(outcome: Outcome, *, answer: str | None = None) -> Score:
    """Convert an outcome to a score. Its status is that of the first fault, as the package describes."""
    faults = [fault for fault in outcome.faults if fault.status.has_value is (outcome.value is not None)]
    parts = ", ".join(
        f"{key} {'none' if part.value is None else f'{part.value:g}'}" for key, part in outcome.parts.items()
    )
    reason = "; ".join([*([parts] if parts else []), *(str(fault) for fault in faults)])[:_REASON_CHARS]
    status = faults[0].status if faults else Status.OK
    return Score(value=outcome.value, status=status, reason=reason or None, answer=answer)


def load_openai(
    source: str | Mapping[str, Any],
    *,
    response_format: Mapping[str, Any] | None = None,
    services: Services | None = None,
) -> OpenAIGrader:
    """Make a grader from OpenAI's JSON.

    Args:
        source: A path, a JSON text, or an object: either the grader itself, or the `reinforcement` object of a
            fine-tuning job, which has the grader under `grader`, beside `response_format` and `hyperparameters`.
        response_format: The required format of answers, if the source does not set it.
        services: Judge, sandbox and other services; None uses those that the environment names.

    Raises:
        SpecError: The source is invalid; the message lists all problems.
    """
    from rft.grading.foreign.openai_spec.parsing import parse_grader, templates_of

    content, path = _read(source) if isinstance(source, str) else source, "$"
    if isinstance(content, Mapping) and "grader" in content and "type" not in content:
        unknown = set(content) - {"grader", "response_format", "hyperparameters"}
        if unknown:
            raise SpecError(
                [f"$.{key}: unknown key; a job has grader, response_format, hyperparameters" for key in sorted(unknown)]
            )
        response_format = response_format or content.get("response_format")
        content, path = content["grader"], "$.grader"
    spec = parse_grader(content, path)
    problems = [*_response_format_problems(response_format)]
    needs_json = [
        template for template in templates_of(spec) if any(v.path[1] == "output_json" for v in template.variables)
    ]
    if needs_json and response_format is None:
        problems.append(
            f"{path}: {needs_json[0].source!r:.80} requires sample.output_json, which exists only with a "
            f"response_format; add it beside the grader, as {{'grader': ..., 'response_format': ...}}"
        )
    if problems:
        raise SpecError(problems)
    return OpenAIGrader(spec=spec, response_format=response_format, services=services or Services())


def _read(source: str) -> Any:
    text, name = source, "the text"
    if not source.lstrip().startswith("{"):
        try:
            text, name = Path(source).expanduser().read_text(encoding="utf-8"), source
        except (OSError, ValueError) as error:
            raise SpecError([f"$: {source} cannot be read: {getattr(error, 'strerror', None) or error}"]) from None
    try:
        return json.loads(text, object_pairs_hook=_without_repeats)
    except RecursionError:
        raise SpecError([f"$: {name} is nested too deep"]) from None
    except json.JSONDecodeError as error:
        raise SpecError([f"$: {name} is not JSON: line {error.lineno}, column {error.colno}: {error.msg}"]) from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    repeated = sorted({key for key in keys if keys.count(key) > 1})
    if repeated:
        raise SpecError([f"$: an object repeats the key '{key}'" for key in repeated])
    return dict(pairs)


def _response_format_problems(response_format: Any) -> list[str]:
    if response_format is None:
        return []
    where = "$.response_format"
    if not isinstance(response_format, Mapping) or response_format.get("type") != "json_schema":
        return [f"{where}: {response_format!r:.80} is not {{'type': 'json_schema', 'json_schema': {{...}}}}"]
    schema = response_format.get("json_schema")
    if not isinstance(schema, Mapping) or not isinstance(schema.get("schema"), Mapping):
        return [f"{where}.json_schema.schema: missing; add the JSON schema of the answers"]
    import jsonschema

    try:
        jsonschema.validators.validator_for(schema["schema"]).check_schema(schema["schema"])
    except jsonschema.SchemaError as error:
        return [f"{where}.json_schema.schema: {error.json_path}: {error.message[:200]}"]
    return []
