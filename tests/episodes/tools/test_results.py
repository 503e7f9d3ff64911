"""What the model is told of the results of tools."""

from __future__ import annotations

import asyncio
import datetime
import functools
from collections.abc import Callable
from typing import Any

import pytest

from rft.episodes.tools.play import as_text
from rft.episodes.tools.sources import run


async def doubled(number: int) -> int:
    return 2 * number


def hidden(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(**arguments: Any) -> Any:
        return function(**arguments)

    return call


def test_a_coroutine_behind_a_decorator_is_awaited() -> None:
    assert asyncio.run(run(hidden(doubled), number=4)) == 8


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ("a", "a"),
        ({"a": [1, None]}, '{"a": [1, null]}'),
        ({"b", "a", "c"}, '["a", "b", "c"]'),
        (datetime.date(2024, 2, 29), '"2024-02-29"'),
    ],
)
def test_results_as_texts(result: Any, text: str) -> None:
    assert as_text(result) == text


@pytest.mark.parametrize("result", [object(), iter(()), map(str, ()), lambda: 1])
def test_an_object_without_a_text_is_a_fault(result: Any) -> None:
    with pytest.raises(TypeError, match="has no text; return a text, or JSON's types"):
        as_text({"found": result})
