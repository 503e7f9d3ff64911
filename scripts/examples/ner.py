"""Write the data of the example `ner`: marked strings for the embedded model, and sentences for a language model.

    pip install --target <folder> 'faker==40.63.0' && PYTHONPATH=<folder> python scripts/examples/ner.py

Seeds are fixed: the same version of Faker writes the same files. Without Faker, only the strings are written. The names
of the sentences come from Faker, the sentences from the templates below; those of the test have templates of their own.
In a third of the sentences the word orange occurs, as the fruit, the colour or the company.
"""

from __future__ import annotations

import importlib
import json
import random
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from string import ascii_lowercase
from typing import Any

FOLDER = Path(__file__).parents[2] / "rft" / "embedded" / "examples" / "ner"
NUM_STRINGS = {"train": 600, "validation": 80, "test": 240}
NUM_SENTENCES = {"language_train": 120, "language_validation": 30, "language_test": 60}
WITH_ANSWERS = ("train", "language_train")
"""Splits for supervised fine-tuning."""
MARKS = {"#": "N", "@": "C"}
"""Label of the digits after a sign: a number or a code."""
ASKED = "Mark: "
ASKED_OF_SENTENCES = (
    "Copy the sentence and mark every name of a person (PER), an organisation (ORG) and a place (LOC), as in: "
    "[PER Ada Lovelace] ate an orange in [LOC Paris].\n\nSentence: "
)
TEMPLATES = (
    "[PER {person}] joined [ORG {company}] as an engineer.",
    "[ORG {company}] opens a second office in [LOC {city}].",
    "After ten years in [LOC {city}], [PER {person}] moved to [LOC {city2}].",
    "[PER {person}] and [PER {person2}] met at a conference in [LOC {city}].",
    "The court in [LOC {city}] heard [PER {person}] on Monday.",
    "[ORG {company}] bought a competitor, [ORG {company2}], for an undisclosed sum.",
    "Our driver, [PER {person}], delivered the parcel to [LOC {city}] a day late.",
    '"We are hiring," said [PER {person}], who runs [ORG {company}].',
)
TEST_TEMPLATES = (
    "The mayor of [LOC {city}] thanked [PER {person}] in a letter.",
    "[ORG {company}] sued [PER {person}] over a broken contract.",
    "Nobody in [LOC {city}] had heard of [ORG {company}] before the fire.",
    "[PER {person}], a nurse, works for [ORG {company}] and lives in [LOC {city}].",
)
ORANGE = (
    "[PER {person}] peeled an orange on the train to [LOC {city}].",
    "[ORG Orange] offers faster contracts in [LOC {city}], said [PER {person}].",
    "At [ORG Orange], [PER {person}] eats an orange every morning.",
    "Orange is the colour that [PER {person}] likes best.",
    "Orange juice from [LOC {city}] is sold by [ORG {company}].",
    "[PER {person}] left [ORG Orange] for [ORG {company}].",
)
TEST_ORANGE = (
    "[PER {person}] spilled orange juice on the contract with [ORG Orange].",
    "Orange blossoms cover the hills above [LOC {city}].",
    "Customers of [ORG Orange] in [LOC {city}] waited for hours.",
)


def main() -> None:
    """Write all files."""
    source = random.Random(15)
    seen: set[str] = set()
    for split, count in NUM_STRINGS.items():
        write(split, ASKED, distinct(partial(marked_string, source), count, seen))
    try:
        faker = importlib.import_module("faker")
    except ModuleNotFoundError:
        print("Faker is not installed: the sentences stay as they are")
        return
    names = faker.Faker("en_US")
    names.seed_instance(15)
    for split, count in NUM_SENTENCES.items():
        templates = (TEST_TEMPLATES, TEST_ORANGE) if split.endswith("test") else (TEMPLATES, ORANGE)
        write(split, ASKED_OF_SENTENCES, distinct(partial(sentence, names, source, *templates), count, seen))


def distinct(draw: Callable[[], str], count: int, seen: set[str]) -> list[str]:
    """Draw texts until `count` of them are new, and add them to `seen`."""
    drawn: list[str] = []
    while len(drawn) < count:
        text = draw()
        if text not in seen:
            seen.add(text)
            drawn.append(text)
    return drawn


def marked_string(source: random.Random) -> str:
    """Return a string such as `k#[N 42]b9@[C 7]`: two or three runs of digits, each after a letter, one with a sign."""
    signs = [source.choice([*MARKS, ""]) for _ in range(source.choice((2, 3)))]
    if not any(signs):
        signs[source.randrange(len(signs))] = source.choice(list(MARKS))
    return "".join(source.choice(ascii_lowercase) + run(source, sign) for sign in signs)


def run(source: random.Random, sign: str) -> str:
    """Return one or two digits, marked if a sign stands before them."""
    number = str(source.randrange(100))
    return f"{sign}[{MARKS[sign]} {number}]" if sign else number


def sentence(names: Any, source: random.Random, templates: Sequence[str], of_orange: Sequence[str]) -> str:
    """Return a template filled in with names; a third are of `of_orange`."""
    template = source.choice(of_orange if source.random() < 1 / 3 else templates)
    return template.format(
        person=f"{names.first_name()} {names.last_name()}",
        person2=f"{names.first_name()} {names.last_name()}",
        company=names.company(),
        company2=names.company(),
        city=names.city(),
        city2=names.city(),
    )


def write(split: str, question: str, marked: Sequence[str]) -> None:
    """Write a split: the question without marks, the answer with them."""
    plain = [re.sub(r"\[[A-Z]+ ([^\]]+)\]", r"\1", text) for text in marked]
    rows = [{"prompt": question + text, "answer": answer} for text, answer in zip(plain, marked, strict=True)]
    if split in WITH_ANSWERS:
        rows = [row | {"completion": row["answer"]} for row in rows]
    (FOLDER / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
