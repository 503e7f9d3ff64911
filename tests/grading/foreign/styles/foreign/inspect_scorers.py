"""As in inspect_ai's documents: a factory of scorers. `Score` is a stand-in with the real one's attributes."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inspect_ai.scorer import Target  # noqa: F401 - the import declares the system


@dataclass
class Score:
    value: object
    answer: str | None = None
    explanation: str | None = None
    reason: str | None = None


async def includes(state, target):
    answer = state.output.completion
    correct = any(text.lower() in answer.lower() for text in target)
    return Score(value="C" if correct else "I", answer=answer, explanation=state.input_text)


async def letters(state, target):
    return Score(value=target.text)


async def unscored(state, target):
    return Score(value=math.nan, reason=target.text)
