"""The two skills of several turns that the embedded model learns: a calculator, and a guessing game.

An episode is the turns of the policy and of the others, in turn, the first by the policy.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from agent_tokenizer import ASSISTANT, CALL, END_CALL, TOOL, USER
from embedded_skills import CALCULATOR, draw, held_out_questions
from embedded_tokenizer import END

ASKED = "I think of a number from 1 to 31."
GAME, HIGHEST, QUESTIONS = "guess_number", 31, 5
TOOLS: tuple[dict[str, Any], ...] = ({"type": "function", "function": {"name": "calc"}},)


@dataclass(frozen=True)
class Episode:
    """One example of several turns."""

    question: str
    turns: tuple[str, ...]
    tools: tuple[dict[str, Any], ...] = ()


def calculations(share: float, seed: int) -> Iterator[Episode]:
    """Yield sums of three or four numbers: a share is given to the calculator, the others are guessed."""
    held_out = held_out_questions(CALCULATOR)
    choices = random.Random(seed)
    previous = "0"
    for item in draw(CALCULATOR, seed):
        if item["question"] in held_out:
            continue
        calls = choices.random() < share
        turns = worked(item["metadata"]["expression"], item["answer"]) if calls else (previous + END,)
        yield Episode(item["question"], turns, TOOLS)
        previous = item["answer"]


def worked(expression: str, answer: str) -> tuple[str, ...]:
    """Return the call of the calculator, its result, and the answer."""
    return (f"{CALL}calc({expression}){END_CALL}{END}", f"{TOOL}{answer}{END}{ASSISTANT}", answer + END)


def games(share: float, seed: int) -> Iterator[Episode]:
    """Yield games: a share is played by bisection, the others by random numbers that agree with the hints."""
    choices = random.Random(seed)
    while True:
        bisects, secret = choices.random() < share, choices.randint(1, HIGHEST)
        low, high = 1, HIGHEST
        turns: list[str] = []
        for question in range(QUESTIONS):
            guess = (low + high) // 2 if bisects else choices.randint(low, high)
            turns.append(f"{guess}{END}")
            if guess == secret or question == QUESTIONS - 1:
                break
            low, high = (guess + 1, high) if guess < secret else (low, guess - 1)
            turns.append(f"{USER}{hint(guess, secret)}{END}{ASSISTANT}")
        yield Episode(ASKED, tuple(turns))


def hint(guess: int, secret: int) -> str:
    """Return what the other player says about a wrong guess."""
    return "higher" if guess < secret else "lower"
