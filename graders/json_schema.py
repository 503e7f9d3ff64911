"""JSON schema: the final answer is JSON that a schema accepts (Draft 2020-12).

graders:
  shape:
    use: json_schema
    schema: {type: object, required: [name, age], additionalProperties: false,
             properties: {name: {type: string, minLength: 1}, age: {type: integer, minimum: 0}}}

A schema checks only the shape. Reward the content as well (`json_match`), or a model learns to fill in the form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from rft.grading import Score, Status, Task, final_answer, reference
from rft.grading.answers import json_answer


@dataclass(frozen=True, kw_only=True)
class JsonSchema:
    """Scores 1 if the answer is JSON that the schema accepts, otherwise 0.

    The answer may be the only fenced block of a text. A task with an empty column is skipped. References (`$ref`) must
    stay inside the schema; nothing is downloaded.
    """

    deterministic: ClassVar[bool] = True

    schema: dict[str, Any] | None = None
    """The schema for all tasks; set either this or `column`."""
    column: str | None = None
    """The task's column with the schema."""

    def __post_init__(self) -> None:
        if (self.schema is None) == (self.column is None):
            raise ValueError("set either schema or column")
        if self.schema is not None:
            _validator(self.schema)

    def warm_up(self) -> None:
        """Import jsonschema."""
        _validator({})

    def grade(self, completion: str, task: Task) -> Score | None:
        """Check the answer."""
        schema = self.schema if self.column is None else reference(task, self.column)
        if schema is None:
            return None
        validator = _validator(schema)
        if not final_answer(completion):
            return Score(value=0.0, status=Status.NO_ANSWER)
        try:
            value = json_answer(completion)
        except ValueError as error:
            return Score(value=0.0, status=Status.INVALID_OUTPUT, reason=str(error))
        wrong = next(validator.iter_errors(value), None)
        return Score(value=float(wrong is None), reason=wrong and f"{wrong.json_path}: {wrong.message}"[:300])


def _validator(schema: Any) -> Any:
    """Return a validator of a schema.

    Raises:
        ValueError: The schema is invalid.
    """
    import jsonschema
    import referencing

    if not isinstance(schema, Mapping):
        raise ValueError(f"a schema must be an object, not a {type(schema).__name__}")
    plain = dict(schema)
    try:
        jsonschema.Draft202012Validator.check_schema(plain)
    except jsonschema.SchemaError as error:
        raise ValueError(f"not a JSON schema: {error.json_path}: {error.message}") from error
    registry: Any = referencing.Registry()  # the default registry downloads references
    return jsonschema.Draft202012Validator(plain, registry=registry)
