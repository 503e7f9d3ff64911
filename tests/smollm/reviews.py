"""Authored rows: short reviews to be called positive or negative, and questions on capitals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

POSITIVE = (
    "The soup was wonderful and the waiter was kind.",
    "I love this lamp; it is bright and well made.",
    "A delightful film from the first minute to the last.",
    "The room was clean, quiet and had a beautiful view.",
    "Great shoes: comfortable and light.",
    "The staff helped us gladly, and the trip was a joy.",
    "Best coffee in town, and the cake is delicious.",
    "The book is clever, funny and warm.",
    "Fast delivery, and everything works perfectly.",
    "My children adore this game.",
    "An excellent teacher, patient and clear.",
    "The garden is lovely, and the food is superb.",
    "I am very happy with this phone.",
    "A charming little hotel; we will come again.",
    "The concert was brilliant.",
    "Soft, warm and beautiful: a perfect blanket.",
    "The repair was quick and cheap, thank you!",
    "What a pleasant surprise, I enjoyed every page.",
)
NEGATIVE = (
    "The soup was cold and the waiter was rude.",
    "I hate this lamp; it broke after a day.",
    "A boring film from the first minute to the last.",
    "The room was dirty, loud and smelled terrible.",
    "Awful shoes: they hurt and fall apart.",
    "The staff ignored us, and the trip was a disaster.",
    "Worst coffee in town, and the cake is stale.",
    "The book is dull, long and badly written.",
    "Late delivery, and nothing works.",
    "My children found this game a disappointment.",
    "A terrible teacher, impatient and confusing.",
    "The garden is neglected, and the food is disgusting.",
    "I am very unhappy with this phone.",
    "A miserable little hotel; never again.",
    "The concert was a waste of money.",
    "Rough, thin and ugly: a useless blanket.",
    "The repair was slow and expensive, and it failed.",
    "What a sad surprise, I regret buying it.",
)
CAPITALS = {
    "France": "Paris",
    "Italy": "Rome",
    "Germany": "Berlin",
    "Japan": "Tokyo",
    "Spain": "Madrid",
    "England": "London",
    "Russia": "Moscow",
    "Greece": "Athens",
}
LABELS = ("positive", "negative")
NUM_TRAINED = 12
"""Reviews of each kind to train on; the others are for the measurement."""


def write_rows(folder: Path) -> None:
    """Write `train.jsonl` (24 demonstrations), `test.jsonl` (12 tasks of the same kind) and `capitals.jsonl` (8)."""
    pairs = list(zip(POSITIVE, NEGATIVE, strict=True))
    train = [_review(text, label) for pair in pairs[:NUM_TRAINED] for text, label in zip(pair, LABELS, strict=True)]
    test = [_review(text, label) for pair in pairs[NUM_TRAINED:] for text, label in zip(pair, LABELS, strict=True)]
    capitals = [{"prompt": f"What is the capital of {land}?", "answer": city} for land, city in CAPITALS.items()]
    for name, rows in {"train": train, "test": test, "capitals": capitals}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _review(text: str, label: str) -> dict[str, Any]:
    return {"prompt": f"Is this review positive or negative? {text}", "completion": label, "answer": label}
