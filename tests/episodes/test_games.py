"""The game that ships with rft."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable

import pytest

from rft.episodes.contract import Reply
from rft.episodes.games.guess_number import guess_number
from rft.episodes.loading import load_environment
from rft.types import Split, Task

SECRETS = range(1, 32)


def played(secret: int, player: Callable[[list[str]], str], stop: str = "stop") -> tuple[float, list[str]]:
    """Return the score of a game, and everything that the player heard."""
    heard: list[str] = []

    async def policy(said: str) -> Reply:
        heard.append(said)
        return Reply(text=player(heard), stop=stop)

    task = Task(id="1", messages=(), item={"secret": secret}, split=Split.TRAIN)
    return asyncio.run(guess_number(task, policy)), heard


def middle(heard: list[str]) -> str:
    """Bisect."""
    low, high = 1, 31
    for hint in heard[1:]:
        guess = (low + high) // 2
        low, high = (guess + 1, high) if hint == "higher" else (low, guess - 1)
    return str((low + high) // 2)


def test_bisection_always_wins() -> None:
    assert [played(secret, middle)[0] for secret in SECRETS] == [1.0] * 31
    assert played(3, middle)[1] == ["I think of a number from 1 to 31.", "lower", "lower", "lower", "higher"]


def test_a_player_who_ignores_the_hints_wins_five_games_of_31() -> None:
    assert sum(played(secret, lambda heard: str(10 + len(heard)))[0] for secret in SECRETS) == 5


@pytest.mark.parametrize("said", ["", "sixteen", "-16", "16.0", "<think>1</think>16"])
def test_what_is_no_number_ends_the_game(said: str) -> None:
    assert played(16, lambda heard: said) == (0.0, ["I think of a number from 1 to 31."])


def test_a_turn_that_was_cut_ends_the_game() -> None:
    assert played(1, lambda heard: "1", stop="length")[0] == 0.0


def test_the_game_is_found_by_its_name() -> None:
    loaded = load_environment("embedded:guess_number", {"questions": 3})
    assert inspect.iscoroutinefunction(loaded.call)
    assert (loaded.use, loaded.takes) == ("embedded:guess_number", ("task", "policy"))
    with pytest.raises(ValueError, match="or take one that ships with rft: embedded:guess_number"):
        load_environment("embedded:guess_numbers", {})
