"""The records of training rows that contain answers: demonstrations, preferences, and token rows."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rft.types import Message, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration(Task):
    """A task with a worked answer: a chat in which the assistant's messages are trained.

    `messages` is the chat before its last message, so a demonstration can be sampled and graded like any task.

    Example:
        Demonstration(id="3f1c...", messages=({"role": "user", "content": "2 + 2 = ?"},), item={}, split="train",
                      chat=({"role": "user", "content": "2 + 2 = ?"}, {"role": "assistant", "content": "4"}),
                      trained=(False, True))
    """

    chat: tuple[Message, ...]
    """The whole chat; the last message is the assistant's."""
    trained: tuple[bool, ...]
    """Whether the learner trains each message of the chat; only messages of the assistant are."""

    @property
    def answer(self) -> str:
        """The last message."""
        return str(self.chat[-1]["content"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference(Demonstration):
    """A demonstration with a second answer, which is worse. Only the last message of the chat is trained.

    Example:
        Preference(id="3f1c...", messages=(question,), item={}, split="train", chat=(question, answer),
                   trained=(False, True), rejected=other_answer)
    """

    rejected: Message
    """The worse answer; the last message of the chat is the better one."""

    def as_rejected(self) -> Demonstration:
        """Return the chat with the worse answer."""
        return replace(self, chat=(*self.chat[:-1], self.rejected))


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledCompletion(Demonstration):
    """A demonstration that may be undesirable. Only the last message of the chat is trained.

    Example:
        LabelledCompletion(id="3f1c...", messages=(question,), item={}, split="train", chat=(question, answer),
                           trained=(False, True), desirable=False)
    """

    desirable: bool
    """Whether the learner makes the answer more likely; otherwise less likely."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRow:
    """A token sequence, of which a learner trains some tokens.

    Example:
        TokenRow(ids=(5, 9, 7, 2), trained=(False, False, True, True))
    """

    ids: tuple[int, ...]
    """`[T]` token ids."""
    trained: tuple[bool, ...]
    """`[T]` whether the learner raises the likelihood of the token."""

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.trained):
            raise ValueError(f"a row has {len(self.ids)} tokens but {len(self.trained)} marks")
