"""Tasks to prompt tokens: the chat template or the raw text, and whether a prompt fits into the model's context."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import cached_property
from typing import Any, Literal, NamedTuple, Protocol

from jinja2 import TemplateSyntaxError

from rft.data.control_tokens import CannotSeparate, ControlTokens, unmarked
from rft.data.messages import texts
from rft.data.tasks import grouped
from rft.errors import DataError
from rft.types import Task
from rft.waiting import in_thread, waiting

MAX_SHOWN_REFUSALS = 20
"""How many different refusals of the chat template are shown; the others are only counted."""
PROMPT_DEADLINE_S = 60.0
"""A chat template is a program that came with a model: it may loop for hours. So long it may take for one prompt."""
TELL_EVERY_S = 0.5
"""How often it is told how many prompts are rendered."""

OTHER_TEMPLATE = "give another template with model.chat_template=<file.jinja>"

Tell = Callable[[int, int], None]
"""Told how many of how many prompts are rendered."""


class TemplateRefusal(DataError):
    """The chat template refuses one task; says why."""

    def __init__(self, task: Task, why: str) -> None:
        self.where, self.why = task.where or f"task {task.id}", why
        super().__init__("prompts", [f"{self.where}: {why}"])


class ChatTokenizer(Protocol):
    """What rendering needs of a tokenizer; those of transformers have it."""

    def apply_chat_template(
        self,
        conversation: list[dict[str, Any]],
        *,
        tools: Any,
        add_generation_prompt: bool,
        tokenize: bool,
        return_dict: bool,
        **variables: Any,
    ) -> Any:
        """Render a chat with the model's template, and turn it into token ids if wanted."""


class Renderer:
    """Turns tasks into the token ids that the sampler completes.

    Control tokens that the contents of messages spell, such as `<|im_end|>`, become the tokens of their characters, so
    only the template begins and ends a turn.

    Args:
        tokenizer: The base model's, with a chat template unless the format is raw.
        format: `chat` renders the messages with the template, `raw` takes the prompt as it is.
        variables: More variables of the template, as `{"enable_thinking": False}`.

    Raises:
        DataError: The template does not use one of the variables.
    """

    def __init__(
        self,
        tokenizer: ChatTokenizer,
        *,
        format: Literal["chat", "raw"] = "chat",
        variables: Mapping[str, Any] | None = None,
    ) -> None:
        self._tokenizer: Any = tokenizer
        self._variables = dict(variables or {})
        self._control = ControlTokens(tokenizer)
        self._is_raw = format == "raw"
        if self._variables and (problems := _unused(self._variables, getattr(tokenizer, "chat_template", None))):
            raise DataError("prompts", problems)

    @property
    def template_sha256(self) -> str | None:
        """SHA-256 of the chat template, hexadecimal; None where there is none in use."""
        template = None if self._is_raw else getattr(self._tokenizer, "chat_template", None)
        return None if template is None else hashlib.sha256(str(template).encode()).hexdigest()

    def render(self, task: Task) -> tuple[int, ...]:
        """Render a task's messages, with its `tools` column if it has one, up to where the assistant begins to speak.

        Returns:
            `[P]` token ids.

        Raises:
            TemplateRefusal: The chat template refuses the task, or a control token in it cannot be told from text.
            DataError: The chat template is no template.
        """
        chat, tools = [dict(message) for message in task.messages], task.item.get("tools")
        try:
            return tuple(self._raw(chat[-1]["content"]) if self._is_raw else self._chat(chat, tools))
        except CannotSeparate as problem:
            spelled = next((name for name in self._control.names for text in texts([chat, tools]) if name in text), "")
            raise TemplateRefusal(
                task,
                f"the prompt spells the control token {spelled}, which cannot be kept as text: {problem}; take it out",
            ) from problem
        except TemplateSyntaxError as error:
            raise DataError(
                "prompts",
                [f"the model's chat template cannot be parsed: line {error.lineno}: {error.message}; {OTHER_TEMPLATE}"],
            ) from error
        except Exception as error:  # a template is a program: it raises what it likes
            roles = ", ".join(message["role"] for message in task.messages)
            raise TemplateRefusal(
                task,
                f"the model's chat template refuses the chat ({roles}): {error}; change the messages, or "
                f"{OTHER_TEMPLATE}",
            ) from error

    def _chat(self, chat: list[dict[str, Any]], tools: Any) -> list[int]:
        if not self._spells_control_tokens(chat, tools):
            ids: list[int] = self._apply(chat, tools, tokenize=True)
            return ids
        text = self._apply(chat, tools, tokenize=False)
        without_marks, spelled = unmarked(
            self._apply(self._control.marked(chat), self._control.marked(tools), tokenize=False)
        )
        if without_marks != text:
            raise CannotSeparate("the chat template looks into the text")
        return self._control.encode(text, spelled)

    def _spells_control_tokens(self, chat: list[dict[str, Any]], tools: Any) -> bool:
        for message in chat:
            for value in message.values():
                if self._control.spelled_in(value) if type(value) is str else self._control.spelled_in_any(value):
                    return True
        return tools is not None and self._control.spelled_in_any(tools)

    def _apply(self, chat: list[dict[str, Any]], tools: Any, *, tokenize: bool) -> Any:
        return self._tokenizer.apply_chat_template(
            chat, tools=tools, add_generation_prompt=True, tokenize=tokenize, return_dict=False, **self._variables
        )

    def _raw(self, text: str) -> list[int]:
        plain: list[int] = (
            self._control.encode(text, [(0, len(text))])
            if self._control.spelled_in(text)
            else self._tokenizer.encode(text, add_special_tokens=False)
        )
        return self._beginning + plain

    @cached_property
    def _beginning(self) -> list[int]:
        """What the tokenizer puts before a text: the token of its beginning, or nothing."""
        alone: list[int] = self._tokenizer.encode("a", add_special_tokens=False)
        whole: list[int] = self._tokenizer.encode("a", add_special_tokens=True)
        return next(whole[:start] for start in range(len(whole)) if whole[start : start + len(alone)] == alone)


def _unused(variables: Mapping[str, Any], template: Any) -> list[str]:
    """A sentence for each variable that a template does not use."""
    sources = template.values() if isinstance(template, Mapping) else [template or ""]
    return [
        f"model.chat_template_kwargs.{name}={value}: the chat template uses no variable {name}; leave it out"
        for name, value in variables.items()
        if not any(re.search(rf"\b{re.escape(name)}\b", source) for source in sources)
    ]


class FittingTasks(NamedTuple):
    """The tasks whose prompts fit into the context."""

    kept: list[Task]
    """Those that fit, in their order."""
    num_dropped: int
    """How many did not."""
    longest: int
    """Tokens of the longest prompt that does; 0 where there is none."""


def fit_context(
    tasks: Sequence[Task],
    renderer: Renderer,
    *,
    context_tokens: int,
    max_completion_tokens: int,
    on_long: Literal["error", "drop"],
    tell: Tell | None = None,
) -> FittingTasks:
    """Find the prompts that are too long to be completed within the model's context.

    Args:
        tasks: The tasks.
        renderer: Renders them.
        context_tokens: Tokens of prompt and completion together that the model can see.
        max_completion_tokens: Tokens of them that a completion may need.
        on_long: Whether a prompt that is too long is an error or is dropped.
        tell: Told twice a second how many are rendered.

    Raises:
        DataError: A prompt is too long and `on_long` is "error", none fits, or the chat template refuses some or does
            not come to an end.
    """
    limit = context_tokens - max_completion_tokens
    made_up = f"{limit} = {context_tokens} of context - sampler.max_completion_tokens={max_completion_tokens}"
    if limit < 1:
        raise DataError(
            "prompts", [f"no room for a prompt: {made_up} tokens; lower sampler.max_completion_tokens to leave some"]
        )
    lengths = _prompt_lengths(tasks, renderer, tell)
    kept = [task for task, length in zip(tasks, lengths, strict=True) if length <= limit]
    num_long = len(tasks) - len(kept)
    if num_long and (on_long == "error" or not kept):
        first = next(task for task, length in zip(tasks, lengths, strict=True) if length > limit)
        longest, length = max(zip(tasks, lengths, strict=True), key=lambda pair: pair[1])
        remedy = ", or leave them out with data.long_prompts=drop" if kept else ", or take a model with more context"
        raise DataError(
            "prompts",
            [
                f"{num_long} of {len(tasks)} prompts are longer than {made_up} tokens; the first is {_place(first)}, "
                f"the longest {_place(longest)} with {length} tokens; lower sampler.max_completion_tokens{remedy}"
            ],
        )
    return FittingTasks(kept, num_long, max((length for length in lengths if length <= limit), default=0))


def _place(task: Task) -> str:
    return task.where or f"task {task.id}"


def _prompt_lengths(tasks: Sequence[Task], renderer: Renderer, tell: Tell | None) -> list[int]:
    """`[len(tasks)]` tokens of each prompt; what the template refuses is collected into one error."""
    lengths: list[int] = []
    refusals: list[TemplateRefusal] = []

    def render() -> None:
        for task in tasks:
            try:
                lengths.append(len(renderer.render(task)))
            except TemplateRefusal as refusal:
                lengths.append(0)
                refusals.append(refusal)

    with waiting(f"the chat template, for {len(tasks)} prompts"):
        _watch(in_thread(render, name="rendering prompts"), tasks, lengths, tell)
    if refusals:
        problems = grouped((refusal.where, refusal.why) for refusal in refusals)
        if hidden := problems[MAX_SHOWN_REFUSALS:]:
            problems = [*problems[:MAX_SHOWN_REFUSALS], f"and {len(hidden)} more refusals"]
        raise DataError("prompts", problems)
    return lengths


def _watch(rendering: Future[None], tasks: Sequence[Task], lengths: Sequence[int], tell: Tell | None) -> None:
    """Wait for the end of the rendering, as long as it goes on."""
    num_done, since = 0, time.monotonic()
    while True:
        try:
            return rendering.result(min(TELL_EVERY_S, PROMPT_DEADLINE_S))
        except TimeoutError:
            if rendering.done():  # the template itself raised one
                raise
        if len(lengths) > num_done:
            num_done, since = len(lengths), time.monotonic()
        elif time.monotonic() - since > PROMPT_DEADLINE_S:
            raise DataError(
                "prompts",
                [
                    f"{_place(tasks[num_done])}: the model's chat template did not come to an end within "
                    f"{PROMPT_DEADLINE_S:g} s; {OTHER_TEMPLATE}"
                ],
            )
        if tell is not None:
            tell(num_done, len(tasks))
