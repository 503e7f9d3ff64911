"""Texts that look alike: planted copies are found, templates and chance are not."""

import random
import re

import pytest

from rft.data.clusters import clusters
from rft.data.hygiene.lookalikes import (
    MAX_ALIKE,
    Likeness,
    Pair,
    find_contained,
    find_lookalikes,
    words_of,
)

SENTENCE = "A farmer sells 12 baskets of ripe plums at the market and brings the other 30 baskets home to her mother."


def random_texts(count: int, seed: int) -> list[str]:
    """Texts of 10 to 40 words out of 2,000, with a number in each."""
    draw = random.Random(seed)
    words = ["".join(draw.choices("abcdefghijklmnopqrst", k=draw.randint(3, 8))) for _ in range(2000)]
    return [f"{draw.randint(2, 99)} " + " ".join(draw.choices(words, k=draw.randint(10, 40))) for _ in range(count)]


def with_other_words(text: str, draw: random.Random) -> str:
    """The text with a tenth of its words replaced."""
    words = text.split()
    for place in draw.sample(range(len(words)), len(words) // 10):
        words[place] = "replaced"
    return " ".join(words)


@pytest.mark.parametrize(
    ("other", "likeness"),
    [
        (SENTENCE.replace("12", "15").replace("30", "7"), Likeness.RENUMBERED),
        (SENTENCE.replace("plums", "pears").replace("mother", "sister"), Likeness.SIMILAR),
        (SENTENCE.replace("plums", "pears").replace("12", "15"), Likeness.SIMILAR),
    ],
)
def test_two_texts_that_look_alike(other: str, likeness: Likeness) -> None:
    found = find_lookalikes(["Something else entirely is said here, in more than eight words.", SENTENCE, other])
    assert (found.equal, found.pairs) == ([], [Pair(1, 2, likeness)])


def test_case_and_punctuation_make_no_difference() -> None:
    same = [SENTENCE, SENTENCE.upper(), SENTENCE.replace(" ", "  ").replace(".", " !")]
    assert find_lookalikes(same).equal == [[0, 1, 2]]
    assert find_lookalikes(same).pairs == []
    assert words_of("It's 3,000.5 m²  --  \uff2f\uff4b") == ("it's", "3,000.5", "m", "2", "ok")


def test_planted_copies_are_all_found_and_nothing_else_is() -> None:
    texts = random_texts(2000, seed=1)
    draw = random.Random(2)
    chosen = draw.sample(range(len(texts)), 20)
    ways = [str.upper, lambda text: re.sub(r"\d+", "100", text), lambda text: with_other_words(text, draw)]
    planted = [ways[number % 3](texts[place]) for number, place in enumerate(chosen)]
    found = find_lookalikes([*texts, *planted])
    pairs = {(first, second) for first, second in found.equal} | {(pair.first, pair.second) for pair in found.pairs}
    assert pairs == {(place, len(texts) + number) for number, place in enumerate(chosen)}
    assert found.short == found.templated == []


def test_rows_of_a_template_are_alike_only_with_the_same_words() -> None:
    draw = random.Random(0)
    rows = [
        f"{draw.choice(['Ann', 'Bo', 'Cy', 'Di'])} has {number} apples and buys {draw.randint(2, 9)} more of them in "
        f"the {draw.choice(['shop', 'mall', 'town'])}. How many apples are there now?"
        for number in range(100)
    ]
    found = find_lookalikes([*rows, rows[7].upper()])
    assert found.equal == [[7, 100]] and found.pairs == []
    assert found.templated == list(range(100))


def test_a_few_numbered_rows_are_no_template() -> None:
    rows = [SENTENCE.replace("12", str(number)) for number in range(MAX_ALIKE)]
    assert len(find_lookalikes(rows).pairs) == MAX_ALIKE * (MAX_ALIKE - 1) // 2
    assert find_lookalikes([*rows, SENTENCE.replace("12", "99")]).pairs == []


def test_short_texts_are_compared_for_the_same_words_alone() -> None:
    found = find_lookalikes(["What is 3 + 4?", "What is 3 + 5?", "what is 3 + 4", ""])
    assert found.equal == [[0, 2]] and found.pairs == [] and found.short == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("7 - 3", "7 + 3"),
        ("7-3", "7+3"),
        ("7\n- 3", "7\n+ 3"),
        ("x < 5", "x > 5"),
        ("C++", "C#"),
        ("5%", "5"),
        ("a \u2264 b", "a \u2265 b"),
        ("\u0915\u093f", "\u0915\u093e"),  # Hindi: the same letter with two vowel signs
    ],
)
def test_signs_and_vowel_signs_make_a_difference(one: str, other: str) -> None:
    assert find_lookalikes([one, other]).equal == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a well-known x-ray", "a well known x ray"),
        ("- one\n* two\n## three", "one two three"),
        ("7 \u2212 3", "7-3"),
        ("C++?", "c ++"),
    ],
)
def test_hyphens_and_marks_of_lists_make_no_difference(one: str, other: str) -> None:
    assert find_lookalikes([one, other]).equal == [[0, 1]]


def test_a_long_text_with_another_sign_looks_alike() -> None:
    one, other = f"{SENTENCE} Is that > 7?", f"{SENTENCE} Is that < 7?"
    assert find_lookalikes([one, other]).pairs == [Pair(0, 1, Likeness.SIMILAR)]


def test_clusters() -> None:
    assert clusters([(0, 0), (5, 2), (2, 7), (1, 4)]) == [[0], [1, 4], [2, 5, 7]]


def test_a_text_inside_another_one() -> None:
    needle = "the quick brown fox jumps over the lazy dog and runs away"  # 12 words: 5 runs of 8
    half = "well, the quick brown fox jumps over the lazy dog and sleeps"  # 3 of them
    less = "well, the quick brown fox jumps over the lazy cat and sleeps"  # 1 of them
    pairs, skipped = find_contained([needle, "a short one"], [half, less, f"He said: {needle.upper()}!", ""])
    assert pairs == [(0, 0), (0, 2)] and skipped == [1]
