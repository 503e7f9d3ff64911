"""Renders tasks to prompt tokens, and checks that prompts fit into the model's context."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import cached_property
from typing import Any, Literal, NamedTuple, Protocol

from jinja2 import TemplateSyntaxError

from rft.data.chat_templates import unused_variables
from rft.data.control_tokens import CannotSeparate, ControlTokens, Span, unmarked
from rft.data.demonstration_records import Demonstration
from rft.data.messages import has_prompt, texts
from rft.data.shots import Shots
from rft.data.tasks import grouped
from rft.errors import DataError
from rft.types import Message, Task
from rft.waiting import in_thread, waiting
from rft.wording import plural

MAX_SHOWN_REFUSALS = 20
"""Number of different refusals of the chat template to show; the rest is only counted."""
PROMPT_DEADLINE_S = 60.0
"""Seconds allowed for one prompt. A chat template is a program from a model's author and may loop for ever."""
TELL_EVERY_S = 0.5
"""Seconds between two progress reports."""

OTHER_TEMPLATE = "set another template with model.chat_template=<file.jinja>"

Tell = Callable[[int, int], None]
"""Called with the number of rendered prompts and the total."""


class TemplateRefusal(DataError):
    """The chat template refuses a task. The message gives the reason."""

    def __init__(self, task: Task, why: str) -> None:
        self.where, self.why = task.where or f"task {task.id}", why
        super().__init__("prompts", [f"{self.where}: {why}"])


class ChatTokenizer(Protocol):
    """The part of a transformers tokenizer that rendering uses."""

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
        """Render a chat with the model's template; return token ids if `tokenize` is true."""


class Renderer:
    """Turns tasks into the token ids that the sampler completes.

    Control tokens in the content of messages, such as `<|im_end|>`, become the tokens of their characters. Only the
    template begins and ends turns.

    Args:
        tokenizer: The base model's, with a chat template unless the format is raw.
        format: `chat` renders the messages with the template, `raw` uses the prompt unchanged.
        variables: Additional variables of the template, such as `{"enable_thinking": False}`.
        shots: Worked examples that precede every prompt; None for none.
        tools: Tools of every prompt in OpenAI's format; None takes those of the row's column `tools`, if it has any.

    Raises:
        DataError: The template does not use one of the variables.
    """

    def __init__(
        self,
        tokenizer: ChatTokenizer,
        *,
        format: Literal["chat", "raw"] = "chat",
        variables: Mapping[str, Any] | None = None,
        shots: Shots | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        self._tokenizer: Any = tokenizer
        self._tools = None if tools is None else [dict(tool) for tool in tools]
        self.shots = shots
        """The worked examples before every prompt, or None."""
        self._variables = dict(variables or {})
        self._control = ControlTokens(tokenizer)
        self.is_raw = format == "raw"
        if self._variables and (
            problems := unused_variables(self._variables, getattr(tokenizer, "chat_template", None))
        ):
            raise DataError("prompts", problems)

    @property
    def template_sha256(self) -> str | None:
        """Hexadecimal SHA-256 of the chat template; None if no template is used."""
        template = None if self.is_raw else getattr(self._tokenizer, "chat_template", None)
        return None if template is None else hashlib.sha256(str(template).encode()).hexdigest()

    def render(self, task: Task, tools: Sequence[Mapping[str, Any]] | None = None) -> tuple[int, ...]:
        """Render the messages of a task, with its tools, up to the start of the assistant's turn.

        Args:
            task: The task.
            tools: Tools of this prompt in place of those of the renderer.

        Returns:
            `[P]` token ids.

        Raises:
            TemplateRefusal: The chat template refuses the task, or a control token cannot be kept as text.
            DataError: The chat template cannot be parsed.
        """
        return self._rendered(task, task.messages, self._prompt, tools)

    def render_answer(self, demonstration: Demonstration, index: int) -> tuple[int, ...]:
        """Render a message of the assistant, as the template writes it after the prompt.

        Args:
            demonstration: The chat.
            index: Position of the message.

        Returns:
            `[C]` token ids, with everything that the template writes after the message.

        Raises:
            TemplateRefusal: Like `render`; or the template does not write the message after the prompt.
            DataError: The chat template cannot be parsed.
        """
        return self._rendered(demonstration, demonstration.chat[: index + 1], self._answer)

    def _rendered(
        self,
        task: Task,
        messages: Sequence[Message],
        render: Callable[[list[dict[str, Any]], Any], list[int]],
        own_tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> tuple[int, ...]:
        if self.shots is not None:
            messages = (self.shots.before_text if self.is_raw else self.shots.before)(task, messages)
        chat = [dict(message) for message in messages]
        tools = next((some for some in (own_tools, self._tools) if some is not None), task.item.get("tools"))
        try:
            return tuple(render(chat, tools))
        except CannotSeparate as problem:
            spelled = next((name for name in self._control.names for text in texts([chat, tools]) if name in text), "")
            raise TemplateRefusal(
                task,
                f"the prompt spells the control token {spelled}, which cannot be kept as text: {problem}; remove it",
            ) from problem
        except TemplateSyntaxError as error:
            raise DataError(
                "prompts",
                [f"the model's chat template cannot be parsed: line {error.lineno}: {error.message}; {OTHER_TEMPLATE}"],
            ) from error
        except Exception as error:  # a template may raise any exception
            roles = ", ".join(message["role"] for message in messages)
            raise TemplateRefusal(
                task,
                f"the model's chat template refuses the chat ({roles}): {error}; change the messages, or "
                f"{OTHER_TEMPLATE}",
            ) from error

    def _prompt(self, chat: list[dict[str, Any]], tools: Any) -> list[int]:
        if self.is_raw:
            return self._beginning + self.plain(chat[-1]["content"])
        if not self._spells_control_tokens(chat, tools):
            ids: list[int] = self._apply(chat, tools, tokenize=True)
            return ids
        return self._control.encode(*self.text(chat, tools, begins_answer=True))

    def _answer(self, chat: list[dict[str, Any]], tools: Any) -> list[int]:
        """Return the tokens of the last message, as the template writes it after the prompt."""
        if self.is_raw:
            return self.plain(chat[-1]["content"])
        begun, _ = self.text(chat[:-1], tools, begins_answer=True)
        whole, spelled = self.text(chat, tools, begins_answer=False)
        if not whole.startswith(begun) or not whole[len(begun) :].strip():
            raise ValueError("it does not write the assistant's message after the prompt that a sampler would complete")
        prompt, ids = self._prompt(chat[:-1], tools), self.encode(whole, spelled)
        if ids[: len(prompt)] == prompt:
            return ids[len(prompt) :]
        # A token spans the end of the prompt. A sampler would begin anew there.
        rest = [(max(0, start - len(begun)), end - len(begun)) for start, end in spelled if end > len(begun)]
        return self.encode(whole[len(begun) :], rest)

    def text(self, chat: list[dict[str, Any]], tools: Any, *, begins_answer: bool) -> tuple[str, list[Span]]:
        """Return the rendered chat, and the spans in which it spells control tokens that are plain text.

        Raises:
            CannotSeparate: The template changes a text that spells a control token.
            Exception: Any exception of the template.
        """
        text: str = self._apply(chat, tools, tokenize=False, begins_answer=begins_answer)
        if not self._spells_control_tokens(chat, tools):
            return text, []
        marked = self._control.marked(chat), self._control.marked(tools)
        without_marks, spelled = unmarked(self._apply(*marked, tokenize=False, begins_answer=begins_answer))
        if without_marks != text:
            raise CannotSeparate("the chat template looks into the text")
        return text, spelled

    def _spells_control_tokens(self, chat: list[dict[str, Any]], tools: Any) -> bool:
        for message in chat:
            for value in message.values():
                if self._control.spelled_in(value) if type(value) is str else self._control.spelled_in_any(value):
                    return True
        return tools is not None and self._control.spelled_in_any(tools)

    def _apply(self, chat: list[dict[str, Any]], tools: Any, *, tokenize: bool, begins_answer: bool = True) -> Any:
        return self._tokenizer.apply_chat_template(
            chat,
            tools=tools,
            add_generation_prompt=begins_answer,
            tokenize=tokenize,
            return_dict=False,
            **self._variables,
        )

    def plain(self, text: str) -> list[int]:
        """Return the tokens of a text in which control tokens are plain text."""
        return self.encode(text, [(0, len(text))] if self._control.spelled_in(text) else [])

    def encode(self, text: str, plain: list[Span]) -> list[int]:
        """Return the tokens of a text, without control tokens in the given spans."""
        if plain:
            return self._control.encode(text, plain)
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    @cached_property
    def _beginning(self) -> list[int]:
        """Token ids that the tokenizer puts before a text: the beginning-of-sequence token, or none."""
        alone: list[int] = self._tokenizer.encode("a", add_special_tokens=False)
        whole: list[int] = self._tokenizer.encode("a", add_special_tokens=True)
        return next(whole[:start] for start in range(len(whole)) if whole[start : start + len(alone)] == alone)


class FittingTasks(NamedTuple):
    """The tasks whose prompts fit into the context."""

    kept: list[Task]
    """The tasks that fit, in order."""
    num_dropped: int
    """Number of tasks that do not fit."""
    longest: int
    """Tokens of the longest prompt that fits; 0 if none fits."""


def fit_context(
    tasks: Sequence[Task],
    renderer: Renderer,
    *,
    context_tokens: int,
    max_completion_tokens: int,
    on_long: Literal["error", "drop"],
    tell: Tell | None = None,
) -> FittingTasks:
    """Separate tasks whose prompts are too long for the model's context.

    Args:
        tasks: The tasks.
        renderer: Renders the tasks.
        context_tokens: Maximum tokens of prompt and completion together.
        max_completion_tokens: Maximum tokens of a completion.
        on_long: Whether a prompt that is too long is an error or is dropped.
        tell: Receives the progress twice a second.

    Raises:
        DataError: A prompt is too long and `on_long` is "error", no prompt fits, or the chat template refuses
            prompts or does not terminate.
    """
    limit = context_tokens - max_completion_tokens
    made_up = f"{limit} = {context_tokens} of context - sampler.max_completion_tokens={max_completion_tokens}"
    if limit < 1:
        raise DataError("prompts", [f"no room for a prompt: {made_up} tokens; lower sampler.max_completion_tokens"])
    return _fitting(
        tasks,
        lambda task: len(renderer.render(task)) if has_prompt(task.messages) else 0,
        limit,
        on_long=on_long,
        what=("prompts", f"{made_up} tokens", _remedy("lower sampler.max_completion_tokens", renderer.shots)),
        tell=tell,
    )


def fit_rows(
    demonstrations: Sequence[Task],
    length: Callable[[Task], int],
    *,
    context_tokens: int,
    on_long: Literal["error", "drop"],
    shots: Shots | None = None,
    tell: Tell | None = None,
) -> FittingTasks:
    """Separate demonstrations whose rows are longer than the model's context.

    Args:
        demonstrations: The demonstrations.
        length: Returns the tokens of a demonstration's longest row.
        context_tokens: Maximum tokens of a row.
        on_long: Whether a demonstration that is too long is an error or is dropped.
        shots: The worked examples in each row, for the remedy.
        tell: Receives the progress twice a second.

    Raises:
        DataError: Like `fit_context`.
    """
    what = ("demonstrations", f"the {context_tokens} tokens of context", _remedy("shorten them", shots))
    return _fitting(demonstrations, length, context_tokens, on_long=on_long, what=what, tell=tell)


def _fitting(
    tasks: Sequence[Task],
    length_of: Callable[[Task], int],
    limit: int,
    *,
    on_long: Literal["error", "drop"],
    what: tuple[str, str, str],
    tell: Tell | None,
) -> FittingTasks:
    """Separate tasks that are too long; `what` is their name, the limit in words, and a remedy."""
    name, words, remedy = what
    lengths = _lengths(tasks, length_of, name, tell)
    kept = [task for task, length in zip(tasks, lengths, strict=True) if length <= limit]
    num_long = len(tasks) - len(kept)
    if num_long and (on_long == "error" or not kept):
        first = next(task for task, length in zip(tasks, lengths, strict=True) if length > limit)
        longest, length = max(zip(tasks, lengths, strict=True), key=lambda pair: pair[1])
        other = ", or drop them with data.long_prompts=drop" if kept else ", or use a model with a longer context"
        raise DataError(
            "prompts",
            [
                f"{num_long} of {len(tasks)} {name} are longer than {words}; the first is {_place(first)}, "
                f"the longest {_place(longest)} with {length} tokens; {remedy}{other}"
            ],
        )
    return FittingTasks(kept, num_long, max((length for length in lengths if length <= limit), default=0))


def _remedy(otherwise: str, shots: Shots | None) -> str:
    return otherwise if shots is None else f"lower data.shots, or {otherwise}"


def _place(task: Task) -> str:
    return task.where or f"task {task.id}"


def _lengths(tasks: Sequence[Task], length_of: Callable[[Task], int], name: str, tell: Tell | None) -> list[int]:
    """Return the tokens of each task, `[len(tasks)]`; collect refusals of the template into one error."""
    lengths: list[int] = []
    refusals: list[TemplateRefusal] = []

    def render() -> None:
        for task in tasks:
            try:
                lengths.append(length_of(task))
            except TemplateRefusal as refusal:
                lengths.append(0)
                refusals.append(refusal)

    with waiting(f"the chat template, for {plural(len(tasks), name.removesuffix('s'))}"):
        _watch(in_thread(render, name="rendering prompts"), tasks, lengths, tell)
    if refusals:
        problems = grouped((refusal.where, refusal.why) for refusal in refusals)
        if hidden := problems[MAX_SHOWN_REFUSALS:]:
            problems = [*problems[:MAX_SHOWN_REFUSALS], f"and {len(hidden)} more refusals"]
        raise DataError("prompts", problems)
    return lengths


def _watch(rendering: Future[None], tasks: Sequence[Task], lengths: Sequence[int], tell: Tell | None) -> None:
    """Wait for the rendering while it makes progress."""
    num_done, since = 0, time.monotonic()
    while True:
        try:
            return rendering.result(min(TELL_EVERY_S, PROMPT_DEADLINE_S))
        except TimeoutError:
            if rendering.done():  # raised by the template
                raise
        if len(lengths) > num_done:
            num_done, since = len(lengths), time.monotonic()
        elif time.monotonic() - since > PROMPT_DEADLINE_S:
            raise DataError(
                "prompts",
                [
                    f"{_place(tasks[num_done])}: the model's chat template did not terminate within "
                    f"{PROMPT_DEADLINE_S:g} s; {OTHER_TEMPLATE}"
                ],
            )
        if tell is not None:
            tell(num_done, len(tasks))
