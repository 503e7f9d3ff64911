"""The tokens between two turns of the policy: the end of its turn, messages of others, and the start of its next turn.

The tokens of an episode only grow: a sampled turn is never rendered or tokenized again, because text has several
tokenizations and a template may change earlier turns. rft renders a short chat in which the assistant says a sentinel,
followed by the new messages, and takes the template's text after the sentinel. The real chat does not take part, so a
template that changes earlier turns does no harm. `require_continuation` checks for the model's own template that the
text after a turn does not depend on the turns before it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rft.data.control_tokens import CannotSeparate
from rft.data.rendering import OTHER_TEMPLATE, Renderer
from rft.errors import DataError
from rft.types import Message

SENTINEL = "RFT7SENTINEL3"
"""What the assistant says in the rendered chat; it survives every template and occurs in no prompt."""

_DUMMY: tuple[Message, ...] = ({"role": "user", "content": "a"}, {"role": "assistant", "content": SENTINEL})
_LONGER: tuple[Message, ...] = (
    {"role": "user", "content": "b"},
    {"role": "assistant", "content": "c"},
    {"role": "user", "content": "d"},
    {"role": "assistant", "content": SENTINEL},
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

    def between(self, messages: Sequence[Message], *, chat: Sequence[Message] = _DUMMY, tools: Any = None) -> Between:
        """Return the tokens of messages after a turn of the policy.

        Control tokens that the messages spell become the tokens of their characters, as in prompts.

        Args:
            messages: Messages of others, in order; none continues the policy's own turn with a new one.
            chat: The chat before them, which ends with the sentinel.
            tools: The tools of the chat, if the template shows any.

        Raises:
            CannotContinue: The template does not write them after a turn, or does not end a turn with an end token.
        """
        if self._renderer.is_raw:
            return Between((), tuple(self._renderer.plain("".join(str(each["content"]) for each in messages))))
        try:
            text, plain = self._renderer.text([dict(each) for each in (*chat, *messages)], tools, begins_answer=True)
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
        return Between(tuple(ids[:end]), tuple(ids[end:]))


def require_continuation(continuation: Continuation) -> None:
    """Check that the template appends a user's message to a sampled turn, in the same way after any chat.

    Args:
        continuation: The continuation of the run.

    Raises:
        DataError: The reason why episodes of several turns are not possible with this template.
    """
    try:
        short, long = (continuation.between(_NEWS, chat=chat) for chat in (_DUMMY, _LONGER))
        if short != long:
            raise CannotContinue("the text after the assistant's turn depends on the turns before it")
    except CannotContinue as problem:
        raise DataError(
            "prompts",
            [f"episodes of several turns are not possible with the model's chat template: {problem}; {OTHER_TEMPLATE}"],
        ) from problem


def as_messages(said: str | Message | Sequence[Message] | None) -> tuple[Mapping[str, Any], ...]:
    """Return what an environment says to the policy as messages: a text is one user message.

    Raises:
        ValueError: It is neither a text nor messages with a role and content.
    """
    if said is None:
        return ()
    if isinstance(said, str):
        return ({"role": "user", "content": said},)
    messages = tuple(said) if isinstance(said, (list, tuple)) else (said,)
    for message in messages:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str) or "content" not in message:
            raise ValueError(f"the policy takes a text, or messages with role and content, not {message!r}")
        if message["role"] == "assistant":
            raise ValueError("only the policy speaks as the assistant; say it as the user, or as a tool")
    return messages
