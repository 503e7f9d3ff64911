"""Where completions end, by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rft.sampling.stops import Stops, model_stops


class Letters:
    """A tokenizer of one character a token, whose control tokens 0 and 1 are no text."""

    def __init__(self, eos_token_id: int | None = 0) -> None:
        self.eos_token_id = eos_token_id

    def get_added_vocab(self) -> dict[str, int]:
        return {"<end>": 0, "<turn>": 1}

    def decode(self, ids: Any, *, skip_special_tokens: bool) -> str:
        assert skip_special_tokens
        return "".join(chr(each) for each in ids if each > 1)


@pytest.mark.parametrize(
    ("ids", "stops", "length", "text"),
    [
        ("abc", Stops(frozenset({0}), ()), None, "abc"),
        ("ab\0c", Stops(frozenset({0}), ()), 3, "ab"),
        ("ab\0c", Stops(frozenset({0, ord("a")}), ()), 1, ""),
        ("abcd", Stops(frozenset({0}), ("bc",)), 3, "a"),
        ("abcd", Stops(frozenset({0}), ("d", "bc")), 3, "a"),
        ("ab\0cd", Stops(frozenset({0}), ("bc",)), 3, "ab"),
        ("bcabc", Stops(frozenset(), ("bc",)), 2, ""),
    ],
)
def test_the_length(ids: str, stops: Stops, length: int | None, text: str) -> None:
    tokens, letters = [ord(each) for each in ids], Letters()
    assert stops.length(tokens, letters) == length
    kept = tokens[:length]
    said = kept[:-1] if kept[-1] in stops.ids else kept
    assert stops.cut(letters.decode(said, skip_special_tokens=True)) == text


def test_an_added_token_ends_by_its_id() -> None:
    stops = Stops(frozenset({0}), ()).adding(["<turn>", "Q:"], Letters())
    assert stops == Stops(frozenset({0, 1}), ("Q:",))


@pytest.mark.parametrize(
    ("generation", "config", "tokenizer", "expected"),
    [
        ({"eos_token_id": 5}, {"eos_token_id": 7}, 0, {0, 5}),
        ({"eos_token_id": [5, 6]}, {}, 5, {5, 6}),
        ({}, {"eos_token_id": 7}, 0, {0}),
        (None, {"eos_token_id": 7}, 0, {0, 7}),
        (None, {"eos_token_id": None}, None, set()),
    ],
)
def test_the_end_tokens_of_a_model(
    tmp_path: Path, generation: Any, config: dict[str, Any], tokenizer: int | None, expected: set[int]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    if generation is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    assert model_stops(tmp_path, Letters(tokenizer)) == Stops(frozenset(expected), ())
