"""The tokens between two turns of the policy: the end of its turn, messages of others, and the start of its next turn.

The tokens of an episode only grow: a sampled turn is never rendered or tokenized again, because text has several
tokenizations and a template may change earlier turns. rft renders a short chat in which the assistant says a sentinel,
followed by the new messages, and takes the template's text after the sentinel. The real chat does not take part, so a
template that changes earlier turns does no harm. `require_continuation` checks for the model's own template that the
text after a turn does not depend on the turns before it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from rft.data.control_tokens import CannotSeparate
from rft.data.rendering import OTHER_TEMPLATE, Renderer
from rft.data.tool_calls import ToolCall
from rft.errors import DataError
from rft.types import Message

SENTINEL = "RFT7SENTINEL3"
"""What the assistant says in the rendered chat; it survives every template and occurs in no prompt."""

_USER: Message = {"role": "user", "content": "a"}
_LONGER: tuple[Message, ...] = (
    {"role": "user", "content": "b"},
    {"role": "assistant", "content": "c"},
    {"role": "user", "content": "d"},
)
_NEWS: tuple[Message, ...] = ({"role": "user", "content": "e"},)


_SPELLED = "a message spells a control token, which cannot be kept as text"


class CannotContinue(ValueError):
    """The template cannot continue a sampled turn. The message gives the reason."""


@dataclass(frozen=True, slots=True)
class Between:
    """The tokens between two turns of the policy.

    Example:
        Between(close=(2,), opening=(198, 1, 882, 198))
    """

    close: tuple[int, ...]
    """The end of the policy's turn, up to its end token; empty in the raw format."""
    opening: tuple[int, ...]
    """All tokens after that, up to the start of the policy's next turn."""

    def after(self, ids: Sequence[int]) -> tuple[int, ...]:
        """Return the tokens to append to a turn. A turn that ends with the template's end token is closed already."""
        is_closed = not self.close or (bool(ids) and ids[-1] == self.close[-1])
        return self.opening if is_closed else self.close + self.opening


class Continuation:
    """Renders what follows a sampled turn.

    Args:
        renderer: Renders the prompts of the run.
        stop_ids: The model's end tokens.
    """

    def __init__(self, renderer: Renderer, stop_ids: Collection[int]) -> None:
        self._renderer = renderer
        self._stop_ids = frozenset(stop_ids)

    def between(
        self,
        messages: Sequence[Message],
        *,
        before: Sequence[Message] = (_USER,),
        calls: Sequence[ToolCall] = (),
        tools: Any = None,
    ) -> Between:
        """Return the tokens of messages after a turn of the policy.

        Control tokens that the messages spell become the tokens of their characters, as in prompts.

        Args:
            messages: Messages of others, in order; none continues the policy's own turn with a new one.
            before: The chat before the turn.
            calls: The calls of the turn, if the messages answer them; their arguments do not matter.
            tools: The tools of the chat, if the template shows any.

        Raises:
            CannotContinue: The template does not write them after a turn, or does not end a turn with an end token.
        """
        if self._renderer.is_raw:
            return Between((), tuple(self._renderer.plain("".join(str(each["content"]) for each in messages))))
        try:
            chat = [dict(each) for each in (*before, self._answer(calls), *messages)]
            text, plain = self._renderer.text(chat, tools, begins_answer=True)
            if text.count(SENTINEL) != 1:
                raise CannotContinue("the chat template does not write the assistant's message as it is, and once")
            start = text.index(SENTINEL) + len(SENTINEL)
            spans = [(begin - start, end - start) for begin, end in plain if begin >= start]
            ids = self._renderer.encode(text[start:], spans)
        except CannotSeparate as problem:
            raise CannotContinue(f"{_SPELLED}: {problem}") from problem
        except CannotContinue:
            raise
        except Exception as error:  # a template may raise any exception
            raise CannotContinue(f"the chat template refuses a message after the assistant's: {error}") from error
        end = next((place + 1 for place, token in enumerate(ids) if token in self._stop_ids), None)
        if end is None:
            raise CannotContinue("the chat template does not end the assistant's turn with an end token of the model")
        # The policy has closed its calls itself, in its own words.
        return Between(tuple(ids[end - 1 if calls else 0 : end]), tuple(ids[end:]))

    @cached_property
    def call_style(self) -> CallStyle | None:
        """How the chat template takes calls; None if they are part of the content."""
        return call_style(self._renderer)

    def _answer(self, calls: Sequence[ToolCall]) -> dict[str, Any]:
        """Return the turn of the policy, which says the sentinel; in an argument of its last call if it calls tools."""
        if not calls or self.call_style is None:
            return {"role": "assistant", "content": SENTINEL}
        return self.call_style.message(calls, [*[{"text": "a"}] * (len(calls) - 1), {"text": SENTINEL}])


class CallStyle(NamedTuple):
    """How a chat template takes the calls of an assistant's message."""

    content: str | None
    """Content beside the calls."""
    is_json: bool
    """Whether the arguments are a JSON text and not an object."""

    def message(self, calls: Sequence[ToolCall], arguments: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return an assistant's message with these calls, and these arguments in place of their own."""
        functions = [
            {"name": call.name, "arguments": json.dumps(each) if self.is_json else dict(each)}
            for call, each in zip(calls, arguments, strict=True)
        ]
        shown = [
            {"id": call.id, "type": "function", "function": each} for call, each in zip(calls, functions, strict=True)
        ]
        return {"role": "assistant", "content": self.content, "tool_calls": shown}


def call_style(renderer: Renderer) -> CallStyle | None:
    """Return how the chat template takes calls; None if it writes none, so that they are part of the content."""
    if renderer.is_raw:
        return None
    for style in (CallStyle("", False), CallStyle("", True), CallStyle(None, False), CallStyle(None, True)):
        message = style.message([ToolCall(id="c00000000", name="repeat")], [{"text": SENTINEL}])
        try:
            text, _ = renderer.text([dict(_USER), message], None, begins_answer=False)
        except Exception:  # a template may raise any exception
            continue
        if text.count(SENTINEL) == 1:
            return style
    return None


def require_continuation(continuation: Continuation) -> None:
    """Check that the template appends a user's message to a sampled turn, in the same way after any chat.

    Args:
        continuation: The continuation of the run.

    Raises:
        DataError: The reason why episodes of several turns are not possible with this template.
    """
    try:
        short, long = (continuation.between(_NEWS, before=before) for before in ((_USER,), _LONGER))
        if short != long:
            raise CannotContinue("the text after the assistant's turn depends on the turns before it")
    except CannotContinue as problem:
        raise DataError(
            "prompts",
            [f"episodes of several turns are not possible with the model's chat template: {problem}; {OTHER_TEMPLATE}"],
        ) from problem
