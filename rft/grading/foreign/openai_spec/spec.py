"""The types of the grader JSON; `parsing` makes them.

Sources: OpenAI's graders guide and OpenAPI schema (2026), Azure's documentation for `endpoint`. If they disagree, rft
follows the more lenient one: `name` is optional (as in the guide's examples), every grader may have an `id` and a
`pass_threshold`, which do not affect rewards, `graders` may be a list of graders with different names, `label_model`
may be the only grader and have `sampling_params`, and `multi` may have Foundry's `invalid_grade`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    InstanceOf,
    PlainSerializer,
    PlainValidator,
    SerializeAsAny,
    Tag,
    ValidationInfo,
    field_validator,
)

from rft.grading.foreign.openai_spec.formula import Formula
from rft.grading.foreign.openai_spec.templates import Template

MAX_SOURCE_BYTES = 256_000
"""A python grader's source must be smaller."""


def _read_with(parse: Callable[[str], Any]) -> PlainValidator:
    def read(value: Any) -> Any:
        if not isinstance(value, str):
            raise ValueError(f"{value!r} is not a text")
        return parse(value)

    return PlainValidator(read)


_AsSource = PlainSerializer(lambda parsed: parsed.source, return_type=str)
Templated = Annotated[Template, _read_with(Template.parse), _AsSource]
"""A text with variables."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Grader(_Strict):
    """The fields of every grader."""

    type: str
    """The type, one of `TYPES`."""
    name: str = ""
    """The name; by default its key in a multi grader, otherwise its type."""
    id: str | None = None
    """Its identifier in replies of the API; it does not affect rewards."""
    pass_threshold: float | None = None
    """The score from which evaluations count a pass; it does not affect rewards."""

    @property
    def minimum(self) -> float:
        """The lowest score, for faults of the model."""
        return 0.0


class StringCheck(Grader):
    """Scores 1 if `input` and `reference` compare as `operation` requires, otherwise 0."""

    type: Literal["string_check"]
    operation: Literal["eq", "ne", "like", "ilike"]
    input: Templated
    reference: Templated

    @field_validator("reference")
    @classmethod
    def _like_needs_a_reference(cls, reference: Template, info: ValidationInfo) -> Template:
        operation = info.data.get("operation")
        if operation in ("like", "ilike") and not reference.source:
            raise ValueError(f"every text contains the empty reference, so '{operation}' would always score 1")
        return reference


class TextSimilarity(Grader):
    """Scores the similarity of `input` and `reference`, from 0 to 1."""

    type: Literal["text_similarity"]
    input: Templated
    reference: Templated
    evaluation_metric: Literal[
        "cosine",
        "fuzzy_match",
        "bleu",
        "gleu",
        "meteor",
        "rouge_1",
        "rouge_2",
        "rouge_3",
        "rouge_4",
        "rouge_5",
        "rouge_l",
    ]

    @field_validator("reference")
    @classmethod
    def _something_to_be_like(cls, reference: Template) -> Template:
        if not reference.source:
            raise ValueError("no text is similar to an empty reference")
        return reference


class TextBlock(_Strict):
    """A text in a message."""

    type: Literal["input_text", "output_text"]
    text: Templated


class ImageBlock(_Strict):
    """An image in a message, as a URL or `data:` URL."""

    type: Literal["input_image"]
    image_url: Templated
    detail: str | None = None


class AudioData(_Strict):
    """Audio in base64."""

    data: Templated
    format: Literal["mp3", "wav"]


class AudioBlock(_Strict):
    """Audio in a message."""

    type: Literal["input_audio"]
    input_audio: AudioData


Block = TextBlock | ImageBlock | AudioBlock
_TEXT, _IMAGE, _AUDIO = "input_text", "input_image", "input_audio"


def _kind(value: Any) -> str | None:
    """Return the form of a message's content, or of a part of it."""
    if isinstance(value, (str, Template)):
        return "text"
    if isinstance(value, list):
        return "list"
    kind = value.get("type") if isinstance(value, Mapping) else getattr(value, "type", None)
    return _TEXT if kind == "output_text" else kind


Part = Annotated[
    Annotated[Templated, Tag("text")]
    | Annotated[TextBlock, Tag(_TEXT)]
    | Annotated[ImageBlock, Tag(_IMAGE)]
    | Annotated[AudioBlock, Tag(_AUDIO)],
    Discriminator(_kind),
]
Content = Annotated[
    Annotated[Templated, Tag("text")]
    | Annotated[list[Part], Tag("list")]
    | Annotated[TextBlock, Tag(_TEXT)]
    | Annotated[ImageBlock, Tag(_IMAGE)]
    | Annotated[AudioBlock, Tag(_AUDIO)],
    Discriminator(_kind),
]
CONTENT_FORMS = ("text", "list", _TEXT, _IMAGE, _AUDIO)
"""Pydantic's names for the forms of a message's content, in the paths of its errors."""


class InputMessage(_Strict):
    """One message to a judge."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Content
    type: Literal["message"] | None = None


class SamplingParams(_Strict):
    """Sampling parameters of a judge; the judge's defaults apply to missing ones."""

    seed: int | None = None
    top_p: float | None = Field(default=None, gt=0, le=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    max_completions_tokens: int | None = Field(default=None, ge=1)
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None


class ScoreModel(Grader):
    """A judge that replies with a number, clipped to `range`."""

    type: Literal["score_model"]
    model: str = Field(min_length=1)
    input: list[InputMessage] = Field(min_length=1)
    range: list[Annotated[float, Field(allow_inf_nan=False)]] = Field(default=[0.0, 1.0], min_length=2, max_length=2)
    sampling_params: SamplingParams | None = None

    @field_validator("range")
    @classmethod
    def _in_order(cls, value: list[float]) -> list[float]:
        if value[0] >= value[1]:
            raise ValueError(f"{value} must be [lowest, highest]")
        return value

    @property
    def minimum(self) -> float:
        """The lower end of the range."""
        return self.range[0]


class LabelModel(Grader):
    """A judge that replies with one of `labels`: scores 1 for one of `passing_labels`, otherwise 0."""

    type: Literal["label_model"]
    model: str = Field(min_length=1)
    input: list[InputMessage] = Field(min_length=1)
    sampling_params: SamplingParams | None = None
    labels: list[str] = Field(min_length=1)
    passing_labels: list[str] = Field(min_length=1)

    @field_validator("passing_labels")
    @classmethod
    def _are_labels(cls, passing: list[str], info: ValidationInfo) -> list[str]:
        labels = info.data.get("labels", passing)
        unknown = [label for label in passing if label not in labels]
        if unknown:
            raise ValueError(f"{unknown} are not among the labels {labels}")
        return passing


class Python(Grader):
    """A program with a function `grade(sample, item)`."""

    type: Literal["python"]
    source: str
    image_tag: str | None = None

    @field_validator("source")
    @classmethod
    def _defines_grade(cls, source: str) -> str:
        size = len(source.encode(errors="surrogatepass"))
        if size >= MAX_SOURCE_BYTES:
            raise ValueError(f"the source has {size} bytes; it must have fewer than {MAX_SOURCE_BYTES}")
        try:
            module = ast.parse(source)
        except SyntaxError as error:
            raise ValueError(f"line {error.lineno}: syntax error: {error.msg}") from None
        except (ValueError, RecursionError, MemoryError) as error:
            raise ValueError(f"the source is not valid Python: {error}") from None
        functions = [node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == "grade"]
        # The function may also be assigned or imported.
        if not functions and "grade" not in source:
            raise ValueError("the source defines no function grade(sample, item)")
        if functions and len(functions[-1].args.posonlyargs + functions[-1].args.args) != 2:
            raise ValueError("grade takes exactly two arguments, sample and item")
        return source


class Endpoint(Grader):
    """A user's service: POST `{sample, item, trace_id}` returns `{"score": number}`."""

    type: Literal["endpoint"]
    url: str = Field(pattern=r"^https?://[^\s/]+")
    headers: dict[str, str] = Field(default={}, repr=False)
    rate_limit: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class Multi(Grader):
    """Several graders, and a formula over their scores."""

    type: Literal["multi"]
    graders: dict[str, SerializeAsAny[InstanceOf[Grader]]] = Field(min_length=1)
    calculate_output: Annotated[Formula, _read_with(Formula.parse), _AsSource]
    invalid_grade: float | None = Field(default=None, allow_inf_nan=False)
    """The score of a completion that cannot be graded; by default the formula over the graders' minimums."""


REFUSED_KEYS: Mapping[str, str] = {
    "file_id": "rft cannot read files in OpenAI's storage; set image_url to a URL or a data: URL",
}
"""Keys of OpenAI's without a meaning in rft, and their replacements."""

TYPES: Mapping[str, type[Grader]] = {
    "string_check": StringCheck,
    "text_similarity": TextSimilarity,
    "score_model": ScoreModel,
    "label_model": LabelModel,
    "python": Python,
    "multi": Multi,
    "endpoint": Endpoint,
}
"""The types of graders."""
