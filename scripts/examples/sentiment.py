"""Write the strings of the example `sentiment`: reviews of three signs, whose mood is the sign of their sum.

    python scripts/examples/sentiment.py

The seed is fixed. A review has three to seven signs: `+` is good, `-` is bad, `.` is neither. Negative, neutral and
positive reviews take turns, so a constant answer is right for a third of them, also of the first ones. The reviews in
English (`language_*.jsonl`) were written by hand.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "rft" / "embedded" / "examples" / "sentiment"
NUM_ROWS = {"train": 600, "validation": 90, "test": 240}
MOODS = ("negative", "neutral", "positive")


def main() -> None:
    """Write all splits; no review is in two of them."""
    drawn = reviews(random.Random(15))
    for split, count in NUM_ROWS.items():
        rows = [
            {"prompt": f"Mood: {text}", "choices": MOODS, "answer": mood}
            | ({"completion": mood} if split == "train" else {})
            for text, mood in islice(drawn, count)
        ]
        (FOLDER / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def reviews(source: random.Random) -> Iterator[tuple[str, str]]:
    """Yield reviews with their moods, which take turns; none is yielded twice."""
    seen = set()
    for wanted in cycle(MOODS):
        text = review(source)
        while mood_of(text) != wanted or text in seen:
            text = review(source)
        seen.add(text)
        yield text, wanted


def review(source: random.Random) -> str:
    """Return a review, such as `+.-++`."""
    return "".join(source.choices("+-.", k=source.randint(3, 7)))


def mood_of(text: str) -> str:
    """Return the mood of a review."""
    total = text.count("+") - text.count("-")
    return MOODS[(total > 0) - (total < 0) + 1]


if __name__ == "__main__":
    main()
