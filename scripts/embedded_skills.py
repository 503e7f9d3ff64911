"""The skills of the embedded model, shared by the scripts that make its tasks and train it.

A skill is a reasoning-gym family with its settings, its scorer, and a short way to work its questions out.
"""

import functools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import reasoning_gym

EMBEDDED = Path(__file__).resolve().parents[1] / "rft" / "embedded"


@dataclass(frozen=True)
class Family:
    """One skill: a reasoning-gym generator, its settings, and how many tasks each split holds."""

    name: str
    """Its folder of tasks."""
    skill: str
    settings: dict[str, int]
    sizes: tuple[int, int, int]
    generator: str = ""
    """Its generator in reasoning-gym; empty for its own name."""


FAMILIES = (
    Family(
        name="chain_sum",
        skill="add or subtract two numbers of one or two digits",
        settings={"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 2},
        sizes=(2000, 250, 300),
    ),
    Family(
        name="gcd",
        skill="find the greatest common divisor of two numbers from 2 to 60",
        settings={"min_numbers": 2, "max_numbers": 2, "min_value": 2, "max_value": 60},
        sizes=(500, 100, 250),
    ),
    Family(
        name="count_bits",
        skill="count the 1 bits of a number from 1 to 1500",
        settings={"min_n": 1, "max_n": 1500},
        sizes=(500, 100, 250),
    ),
    Family(
        name="spell_backward",
        skill="spell a word of three to six letters backward",
        settings={"min_word_len": 3, "max_word_len": 6},
        sizes=(500, 100, 250),
    ),
)
CALCULATOR = Family(
    name="long_sum",
    skill="add and subtract three or four numbers of three digits with the tool `calc`",
    settings={"min_terms": 3, "max_terms": 4, "min_digits": 3, "max_digits": 3},
    sizes=(500, 100, 300),
    generator="chain_sum",
)


def draw(family: Family, seed: int) -> Iterator[dict[str, Any]]:
    """Yield reasoning-gym items of a family without end; the same seed yields the same items.

    reasoning-gym seeds item i with ``seed + i``: items are fresh only if the seeds are far apart.
    """
    dataset = reasoning_gym.create_dataset(family.generator or family.name, size=1, seed=seed, **family.settings)
    index = 0
    while True:
        yield dataset[index]
        index += 1


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the rows of one task file."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def held_out_questions(family: Family) -> set[str]:
    """Return the questions of a family's validation and test tasks."""
    files = (EMBEDDED / "tasks" / family.name / f"{split}.jsonl" for split in ("validation", "test"))
    return {row["messages"][-1]["content"] for file in files for row in read_rows(file)}


@functools.cache
def scorer(source_dataset: str) -> Callable[[str, dict[str, Any]], float]:
    """Return the scorer of a reasoning-gym family (reasoning-gym makes a new data set at each request)."""
    answer_scorer: Callable[[str, dict[str, Any]], float] = reasoning_gym.get_score_answer_fn(source_dataset)
    return answer_scorer


def score(row: dict[str, Any], answer: str) -> float:
    """Score an answer to a row with the scorer of the row's own reasoning-gym family."""
    entry = {"question": row["messages"][-1]["content"], "answer": row["answer"], "metadata": row["metadata"]}
    return float(scorer(row["metadata"]["source_dataset"])(answer, entry))


def work_sum(metadata: dict[str, Any]) -> str:
    """Say the sum again and work it out digit by digit; a difference below 0 starts with its sign and is swapped."""
    left, sign, right = metadata["expression"].split()
    first, second, direction = int(left), int(right), 1 if sign == "+" else -1
    start = "-" if sign == "-" and first < second else ""
    if start:
        first, second = second, first
    upper, lower = first % 10, second % 10
    carry = int(upper + lower > 9) if sign == "+" else int(upper < lower)
    if sign == "-":
        upper += 10 * carry
    text = f"{start}{first}{sign}{second}:{upper}{sign}{lower}={upper + direction * lower}"
    if first > 9:
        tens = first // 10 + direction * (second // 10 + carry)
        text += f",{first // 10}{sign}{second // 10}{f'{sign}1' if carry else ''}={tens}"
    return text


def work_divisor(metadata: dict[str, Any]) -> str:
    """Write both numbers as how often 2, 3, 5 and 7 divide them and what is left; then the same of the divisor."""
    codes = []
    for number in metadata["numbers"]:
        code, left = "", number
        for prime in (2, 3, 5, 7):
            times = 0
            while left % prime == 0:
                left //= prime
                times += 1
            code += str(times)
        codes.append(f"{code}.{left:02}")
    # What is left is 1 or one prime above 7, as long as the numbers are below 121.
    common = "".join(map(min, codes[0][:5], codes[1][:5])) + (codes[0][5:] if codes[0][5:] == codes[1][5:] else "01")
    return f"{metadata['numbers'][0]}={codes[0]},{metadata['numbers'][1]}={codes[1]}:{common}"


def work_bits(metadata: dict[str, Any]) -> str:
    """Halve down to 1; the letter after each number counts the odd ones so far, from a for none."""
    number, odd, steps = metadata["number"], 0, []
    while number:
        odd += number % 2
        steps.append(f"{number}{'abcdefghijkl'[odd]}")
        number //= 2
    return "".join(steps)


def work_spelling(metadata: dict[str, Any]) -> str:
    """Number the letters."""
    return "".join(f"{letter}{place}" for place, letter in enumerate(metadata["word"], start=1))


WORK = {"chain_sum": work_sum, "gcd": work_divisor, "count_bits": work_bits, "spell_backward": work_spelling}
