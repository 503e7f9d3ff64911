"""Finds texts that look alike: the same words, other numbers, or a few other words.

Texts are compared as words, without case and punctuation; for the same words, signs such as those of arithmetic count
too. Two texts that share rare runs of three words, numbers not
counting, are candidates; the edit distance of their words decides. Rows that a program made from a template all look
alike, which says nothing about leakage. Such rows form a family: among them, only the same words count.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from rft.data.clusters import clusters

MIN_WORDS = 8
"""Texts with fewer words, not counting numbers, are only compared for the same words: they are alike by chance."""
MIN_SIMILARITY = 0.8
"""Least share of words, in order, that two similar texts have in common."""
MAX_ALIKE = 5
"""Number of rows that may look alike; more of them are the family of a template."""
MAX_SHARERS = 50
"""A run of words in more texts than this is common, and makes no candidates."""
MIN_RARE_SHARE = 0.3
"""A text with a smaller share of runs that are not common belongs to a template."""
RUN = 3
"""Words of a run."""
NUMBER = "0"
"""What stands for any number."""

SIGNS = "+-*/^=<>#%"
"""Characters that carry meaning, beside the mathematical symbols of Unicode (Sm)."""
_NO_SIGN = re.compile(r"(?m:^[ \t]*(?:[-*+>]|#+)[ \t]+(?![ \t\d]))|(?<=[^\W_])-(?=[^\W\d_])|(?<=[^\W\d_])-(?=[^\W_])")
"""A mark that begins a line, as in lists, and a hyphen with a letter beside it and a letter or digit on either side."""
_LAST_MARK = 0x1FFFF
"""No letter of a language takes a mark beyond this character."""


class Likeness(StrEnum):
    """How two texts look alike."""

    SAME = "same words"
    RENUMBERED = "other numbers"
    SIMILAR = "a few other words"


@dataclass(frozen=True, slots=True, order=True)
class Pair:
    """Two texts that look alike.

    Example:
        Pair(first=3, second=17, likeness=Likeness.RENUMBERED)
    """

    first: int
    """Number of the earlier text, from 0."""
    second: int
    """Number of the later text."""
    likeness: Likeness
    """How they look alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookalikes:
    """The pairs among N texts, and what was compared for the same words alone."""

    equal: list[list[int]]
    """The texts with the same words: ascending numbers, at least two in each list."""
    pairs: list[Pair]
    """All other pairs, in order. The first of several equal texts stands for all of them."""
    short: list[int]
    """Numbers of the texts with fewer than `MIN_WORDS` words."""
    templated: list[int]
    """Numbers of the texts that belong to the family of a template."""


def words_of(text: str) -> tuple[str, ...]:
    """Return the words and numbers of a text, without case, punctuation and signs."""
    return _without_signs(words_and_signs_of(text))


def words_and_signs_of(text: str) -> tuple[str, ...]:
    """Return the words, numbers and signs of a text, without case and punctuation.

    A hyphen inside a word is no sign, nor is a mark that begins a line, as those of lists and headings.
    """
    plain = unicodedata.normalize("NFKC", text).replace("\u2212", "-").casefold()
    return tuple(_pattern().findall(_NO_SIGN.sub(" ", plain)))


def _without_signs(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(word for word in words if word[0].isalnum())


@cache
def _pattern() -> re.Pattern[str]:
    """Return the pattern of a word, a number or a sign."""
    kinds = {one: unicodedata.category(one) for one in map(chr, range(_LAST_MARK + 1))}
    marks = "".join(one for one, kind in kinds.items() if kind[0] == "M")  # such as Hindi vowel signs
    symbols = "".join(one for one, kind in kinds.items() if kind == "Sm" and one not in SIGNS)
    letters = rf"[^\W\d_]+(?:[{marks}]+[^\W\d_]*)*"
    return re.compile(rf"\d+(?:[.,:/]\d+)*|{letters}(?:['\u2019]{letters})*|[{re.escape(SIGNS + symbols)}]")


def without_numbers(words: Iterable[str]) -> tuple[str, ...]:
    """Return the words with `NUMBER` for each number."""
    return tuple(NUMBER if word[0].isdigit() else word for word in words)


def find_lookalikes(texts: Sequence[str]) -> Lookalikes:
    """Return all pairs of texts that look alike."""
    words = [words_and_signs_of(text) for text in texts]
    alike: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for number, own in enumerate(words):
        alike[own].append(number)
    short: list[int] = []
    of_shape: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for own, numbers in alike.items():
        shape = without_numbers(_without_signs(own))
        if len(shape) - shape.count(NUMBER) < MIN_WORDS:
            short += numbers
        else:
            of_shape[shape].append(numbers[0])
    pairs, templated = _of_shapes(list(of_shape), list(of_shape.values()), words)
    equal = [numbers for own, numbers in alike.items() if own and len(numbers) > 1]
    return Lookalikes(equal=equal, pairs=sorted(pairs), short=sorted(short), templated=sorted(templated))


def _of_shapes(
    shapes: Sequence[tuple[str, ...]], rows: Sequence[Sequence[int]], words: Sequence[tuple[str, ...]]
) -> tuple[list[Pair], list[int]]:
    """Return the pairs of rows whose shapes are equal or similar, and the rows of templates.

    Args:
        shapes: Different sequences of words, without numbers.
        rows: The numbers of the rows with each shape.
        words: The words and signs of all rows.
    """
    candidates, templated = _candidates(shapes)
    similar = [pair for pair in candidates if not templated & {*pair} and _is_similar(*(shapes[one] for one in pair))]
    for cluster in clusters([*((number, number) for number in range(len(shapes))), *similar]):
        if sum(len(rows[number]) for number in cluster) > MAX_ALIKE:
            templated |= {*cluster}
    pairs = [
        Pair(first, second, _likeness(words[first], words[second]))
        for number, own in enumerate(rows)
        if number not in templated
        for first, second in combinations(own, 2)
    ]
    pairs += [
        Pair(min(first, second), max(first, second), Likeness.SIMILAR)
        for one, other in similar
        if one not in templated
        for first, second in product(rows[one], rows[other])
    ]
    return pairs, [number for shape in templated for number in rows[shape]]


def _likeness(one: Sequence[str], other: Sequence[str]) -> Likeness:
    """Return the likeness of two rows of one shape: other numbers, or with the same numbers, other signs."""
    return Likeness.SIMILAR if _without_signs(one) == _without_signs(other) else Likeness.RENUMBERED


def _candidates(shapes: Sequence[tuple[str, ...]]) -> tuple[list[tuple[int, int]], set[int]]:
    """Return the pairs of shapes that share rare runs of words, and the shapes that hardly have any."""
    ids: dict[str, int] = {}
    runs = [np.unique(_runs(np.array([ids.setdefault(word, len(ids)) for word in shape]), RUN)) for shape in shapes]
    if not runs:
        return [], set()
    lengths = np.array([len(own) for own in runs])
    rare_count = np.zeros(len(runs), dtype=np.int64)
    shared: Counter[tuple[int, int]] = Counter()
    for group in _groups(np.concatenate(runs), np.repeat(np.arange(len(runs)), lengths)):
        if len(group) <= MAX_SHARERS:
            rare_count[group] += 1
            shared.update(combinations(group.tolist(), 2))
    common = {*np.flatnonzero(rare_count < MIN_RARE_SHARE * lengths).tolist()}
    return [pair for pair, count in shared.items() if count > 1], common


def _runs(ids: NDArray[np.int64], size: int) -> NDArray[np.uint64]:
    """Return a hash of each run of `size` ids."""
    if len(ids) < size:
        return np.zeros(0, dtype=np.uint64)
    # Multiplication wraps around at 64 bits. The first step scatters small ids.
    scattered = (ids.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    scattered ^= scattered >> np.uint64(29)
    hashes = np.zeros(len(ids) - size + 1, dtype=np.uint64)
    for place in range(size):
        hashes = hashes * np.uint64(0xBF58476D1CE4E5B9) + scattered[place : place + len(hashes)]
    return hashes


def _groups(hashes: NDArray[np.uint64], owners: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield the ascending owners of each hash."""
    order = np.argsort(hashes, kind="stable")
    starts = np.flatnonzero(np.diff(hashes[order])) + 1
    yield from np.split(owners[order], starts)


def are_alike(one: str, other: str) -> bool:
    """Whether two texts have nearly the same words, numbers aside."""
    return _is_similar(without_numbers(words_of(one)), without_numbers(words_of(other)))


def _is_similar(one: Sequence[str], other: Sequence[str]) -> bool:
    return Levenshtein.normalized_similarity(one, other, score_cutoff=MIN_SIMILARITY) >= MIN_SIMILARITY


def find_contained(
    needles: Sequence[str], haystack: Sequence[str], *, run_words: int = 8, min_share: float = 0.5
) -> tuple[list[tuple[int, int]], list[int]]:
    """Find texts that stand, at least in large part, inside other texts.

    Args:
        needles: N texts, such as the prompts of test rows.
        haystack: M texts, such as all texts of training rows.
        run_words: Words of a run; a needle without at least three runs is skipped.
        min_share: Least share of a needle's runs that must stand in the other text.

    Returns:
        Pairs of the numbers of a needle and of the text that contains it, and the numbers of the needles skipped: those
        that are short, and those whose runs are mostly those of more than `MAX_ALIKE` needles.
    """
    ids: dict[str, int] = {}
    runs = [_run_set(words_of(text), ids, run_words) for text in needles]
    uses = Counter(run for own in runs for run in own)
    own_runs = [{run for run in own if uses[run] <= MAX_ALIKE} for own in runs]
    skipped = {
        number
        for number, (own, every) in enumerate(zip(own_runs, runs, strict=True))
        if len(every) < 3 or 2 * len(own) < len(every)
    }
    where = defaultdict(list)
    for number, own in enumerate(own_runs):
        if number not in skipped:
            for run in own:
                where[run].append(number)
    pairs = []
    for place, text in enumerate(haystack):
        hits = Counter(number for run in _run_set(words_of(text), ids, run_words) for number in where.get(run, ()))
        pairs += [(number, place) for number, count in hits.items() if count >= min_share * len(own_runs[number])]
    return sorted(pairs), sorted(skipped)


def _run_set(words: Sequence[str], ids: dict[str, int], size: int) -> set[int]:
    return set(_runs(np.array([ids.setdefault(word, len(ids)) for word in words]), size).tolist())
