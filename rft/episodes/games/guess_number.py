"""Guess the number: a game of several turns in which every hint halves what is left, if the policy asks well."""

from __future__ import annotations

from typing import Any


async def guess_number(task: Any, policy: Any, highest: int = 31, questions: int = 5) -> float:
    """Play one game. The row has the `secret`.

    Returns:
        1 if the policy says the secret within the allowed questions, otherwise 0. A turn that is no number ends the
        game.
    """
    secret = int(task.item["secret"])
    said = f"I think of a number from 1 to {highest}."
    for _ in range(questions):
        reply = await policy(said)
        guess = reply.text.strip()
        if reply.stop == "length" or not guess.isdecimal():
            return 0.0
        if int(guess) == secret:
            return 1.0
        said = "higher" if int(guess) < secret else "lower"
    return 0.0
