"""Tasks to prompt tokens: the chat template, and whether a prompt fits into the model's context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol

from rft.errors import DataError
from rft.types import Task

MAX_SHOWN_REFUSALS = 20
"""How many tasks that the chat template refuses are shown; the others are only counted."""


class ChatTokenizer(Protocol):
    """The one thing that rendering needs of a tokenizer; those of transformers have it."""

    def apply_chat_template(
        self,
        conversation: list[dict[str, Any]],
        *,
        tools: Any,
        add_generation_prompt: bool,
        tokenize: bool,
        return_dict: bool,
    ) -> Any:
        """Render a chat with the model's template and turn it into token ids."""


class Renderer:
    """Turns tasks into the token ids that the sampler completes.

    Args:
        tokenizer: The base model's, with a chat template.
    """

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self._tokenizer = tokenizer

    def render(self, task: Task) -> tuple[int, ...]:
        """Render a task's messages, with its `tools` column if it has one, up to where the assistant begins to speak.

        Returns:
            `[P]` token ids.

        Raises:
            DataError: The chat template refuses the task.
        """
        try:
            ids = self._tokenizer.apply_chat_template(
                [dict(message) for message in task.messages],
                tools=task.item.get("tools"),
                add_generation_prompt=True,
                tokenize=True,
                return_dict=False,
            )
        except Exception as error:  # a template is a program: it raises what it likes
            roles = ", ".join(message["role"] for message in task.messages)
            raise DataError(
                "prompts",
                [
                    f"task {task.id} ({roles}): the model's chat template refuses it: {error}; change the messages, "
                    "or give another template with model.chat_template=<file.jinja>"
                ],
            ) from error
        return tuple(ids)


class FittingTasks(NamedTuple):
    """The tasks whose prompts fit into the context."""

    kept: list[Task]
    """Those that fit, in their order."""
    num_dropped: int
    """How many did not."""


def fit_context(
    tasks: Sequence[Task],
    renderer: Renderer,
    *,
    context_tokens: int,
    max_completion_tokens: int,
    on_long: Literal["error", "drop"],
) -> FittingTasks:
    """Find the prompts that are too long to be completed within the model's context.

    Args:
        tasks: The tasks.
        renderer: Renders them.
        context_tokens: Tokens of prompt and completion together that the model can see.
        max_completion_tokens: Tokens of them that a completion may need.
        on_long: Whether a prompt that is too long is an error or is dropped.

    Raises:
        DataError: A prompt is too long and `on_long` is "error", none fits, or the chat template refuses some.
    """
    limit = context_tokens - max_completion_tokens
    made_up = f"{limit} = {context_tokens} of context - sampler.max_completion_tokens={max_completion_tokens}"
    if limit < 1:
        raise DataError(
            "prompts", [f"no room for a prompt: {made_up} tokens; lower sampler.max_completion_tokens to leave some"]
        )
    lengths = _prompt_lengths(tasks, renderer)
    kept = [task for task, length in zip(tasks, lengths, strict=True) if length <= limit]
    num_long = len(tasks) - len(kept)
    if num_long and (on_long == "error" or not kept):
        longest, length = max(zip(tasks, lengths, strict=True), key=lambda pair: pair[1])
        remedy = ", or leave them out with data.long_prompts=drop" if kept else ", or take a model with more context"
        raise DataError(
            "prompts",
            [
                f"{num_long} of {len(tasks)} prompts are longer than {made_up} tokens; the longest is task "
                f"{longest.id} with {length} tokens; lower sampler.max_completion_tokens{remedy}"
            ],
        )
    return FittingTasks(kept, num_long)


def _prompt_lengths(tasks: Sequence[Task], renderer: Renderer) -> list[int]:
    """`[len(tasks)]` tokens of each prompt; what the template refuses is collected into one error."""
    lengths: list[int] = []
    refusals: list[str] = []
    for task in tasks:
        try:
            lengths.append(len(renderer.render(task)))
        except DataError as error:
            refusals += error.problems
    if refusals:
        hidden = len(refusals) - MAX_SHOWN_REFUSALS
        raise DataError("prompts", refusals[:MAX_SHOWN_REFUSALS] + ([f"and {hidden} more"] if hidden > 0 else []))
    return lengths
