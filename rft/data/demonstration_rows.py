"""Renders demonstrations to the token rows that a learner trains on.

The prompt of an answer has the tokens that a sampler would complete. The answer has the tokens that the template writes
after the prompt, up to and including the model's end token. A later answer extends the same row if its prompt begins
with the row so far. Otherwise, because the template rewrites earlier turns, it begins a row of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from rft.data.demonstration_records import Demonstration, TokenRow
from rft.data.mixture import MixedTasks
from rft.data.order import ShuffledTasks
from rft.data.rendering import Renderer, TemplateRefusal
from rft.types import Task

NUM_SHOWN = 3
"""Number of demonstrations whose trained text is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowRenderer:
    """Renders demonstrations.

    Example:
        RowRenderer(renderer=renderer, end_ids=frozenset({2}), eos_id=2)
    """

    renderer: Renderer
    """Renders prompts and answers."""
    end_ids: frozenset[int]
    """Tokens that end a completion."""
    eos_id: int
    """Ends an answer after which the template writes no end token."""
    unknown_id: int | None = None
    """Stands for a text that the tokenizer lacks; None if it lacks none."""

    @classmethod
    def of(cls, renderer: Renderer, tokenizer: Any, end_ids: frozenset[int]) -> Self:
        """Return the renderer for a tokenizer and its tokens that end a completion, of which there is at least one."""
        eos_id, unknown_id = tokenizer.eos_token_id, tokenizer.unk_token_id
        return cls(
            renderer=renderer,
            end_ids=end_ids,
            eos_id=min(end_ids) if eos_id is None else eos_id,
            unknown_id=None if unknown_id in end_ids else unknown_id,  # GPT-2 names its end token
        )

    def rows(self, demonstration: Demonstration) -> list[TokenRow]:
        """Return the rows of a demonstration.

        Raises:
            TemplateRefusal: The chat template refuses the chat, or writes the answer differently after the prompt; or
                the tokenizer lacks a character of an answer.
        """
        rows: list[TokenRow] = []
        ids: list[int] = []
        trained: list[bool] = []

        def finish() -> None:
            if ids:
                rows.append(TokenRow(ids=tuple(ids), trained=tuple(trained)))

        for index, is_trained in enumerate(demonstration.trained):
            if not is_trained:
                continue
            prompt = list(self.renderer.render(replace(demonstration, messages=demonstration.chat[:index])))
            answer = self._ended(self.renderer.render_answer(demonstration, index))
            if self.unknown_id in answer:
                why = "an answer has characters that the tokenizer lacks, so it would train the token for unknown text"
                raise TemplateRefusal(demonstration, f"{why}; replace them, or remove the row")
            if prompt[: len(ids)] != ids:
                finish()
                ids, trained = [], []
            trained = [*trained, *[False] * (len(prompt) - len(ids)), *[True] * len(answer)]
            ids = [*prompt, *answer]
        finish()
        return rows

    def length(self, task: Task) -> int:
        """Return the tokens of a demonstration's longest row."""
        assert isinstance(task, Demonstration)  # from `to_demonstration`
        return max(len(row.ids) for row in self.rows(task))

    def ordered(self, tasks: ShuffledTasks | MixedTasks) -> DemonstrationOrder:
        """Return the batches of these demonstrations."""
        return DemonstrationOrder(order=tasks, renderer=self)

    def trained_text(self, demonstration: Demonstration, tokenizer: Any) -> str:
        """Return the trained tokens of a demonstration as text, with control tokens."""
        parts = [
            tokenizer.decode([id for id, on in zip(row.ids, row.trained, strict=True) if on])
            for row in self.rows(demonstration)
        ]
        return " ... ".join(parts)

    def _ended(self, ids: Sequence[int]) -> list[int]:
        """Return an answer up to its end token, which is added if the template writes none."""
        end = next((place for place, token in enumerate(ids) if token in self.end_ids), None)
        return [*ids, self.eos_id] if end is None else [*ids[: end + 1]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemonstrationOrder:
    """The rows of each step, as a pure function of seed and step."""

    order: ShuffledTasks | MixedTasks
    """The order of the demonstrations."""
    renderer: RowRenderer
    """Renders them."""

    def of_step(self, step: int) -> list[TokenRow]:
        """Return the rows of a step."""
        demonstrations = [task for task in self.order.of_step(step) if isinstance(task, Demonstration)]
        return [row for demonstration in demonstrations for row in self.renderer.rows(demonstration)]

    def metrics(self, batch: Sequence[TokenRow]) -> dict[str, float]:
        """Return the numbers of rows, of their tokens, and of trained tokens."""
        return {
            "demonstrations/rows": float(len(batch)),
            "demonstrations/tokens": float(sum(len(row.ids) for row in batch)),
            "demonstrations/trained_tokens": float(sum(sum(row.trained) for row in batch)),
        }
