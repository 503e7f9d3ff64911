"""Graders of a post: its form, its voice, whether it tells the news, and whether it copies.

A post ends with its hashtags, and then with a trailer that readers do not see: `<!-- sources: [n12] -->`. The built-in
graders `cites` and `supported` read the trailer and the passages.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rft.embedded.examples.linkedin_voice.features import FLOORS, features_of
from rft.grading import Score, Status, Task, final_answer

POSTS = Path(__file__).with_name("demonstrations.jsonl")
"""Posts of the house that may be learned from."""
MAX_CHARS = 4_000
"""A longer answer is no post."""

_TRAILER = re.compile(r"\n+<!-- sources:(?: \[\w+\])+ -->\s*\Z")
_PREAMBLE = re.compile(
    r"\W*(?:(?:answer|post|draft)\s*:|the answer is|here is|here's|sure|certainly|of course)", re.IGNORECASE
)
_HASHTAGS = re.compile(r"\n\s*\n(#\w+(?: #\w+)*)\Z")
_WORD = re.compile(r"\w+")
_DIGITS = "zero one two three four five six seven eight nine"
_NUMBERS = {word: str(number) for number, word in enumerate(_DIGITS.split())}


def read_post(completion: str) -> tuple[str, str | None]:
    """Return a post without its trailer, and its last line if that holds hashtags."""
    post = _TRAILER.sub("", final_answer(completion)).strip()
    match = _HASHTAGS.search(post)
    return post, match[1] if match else None


@dataclass(frozen=True, kw_only=True)
class Form:
    """Scores 1 if the post has the length, the hashtags and the trailer that it should have, otherwise 0."""

    deterministic: ClassVar[bool] = True
    in_process: ClassVar[bool] = True

    min_words: int = 35
    """Fewest words without hashtags and trailer."""
    max_words: int = 120
    """Most words without hashtags and trailer."""
    max_hashtags: int = 3
    """Most hashtags; they stand on the last line, and nowhere else."""

    def grade(self, completion: str) -> Score:
        """Check trailer, hashtags and length."""
        answer = final_answer(completion)
        if len(answer) > MAX_CHARS:
            return Score(value=0.0, status=Status.INVALID_OUTPUT, reason=f"longer than {MAX_CHARS} characters")
        if not _TRAILER.search(answer):
            return Score(value=0.0, reason="no trailer <!-- sources: [id] --> at the end")
        post, hashtags = read_post(answer)
        if hashtags is None:
            return Score(value=0.0, reason="no line of hashtags at the end of the post")
        body = post.removesuffix(hashtags)
        problem = self._problem(body, len(hashtags.split()))
        return Score(value=float(problem is None), reason=problem)

    def _problem(self, body: str, num_hashtags: int) -> str | None:
        words = len(body.split())
        if not self.min_words <= words <= self.max_words:
            return f"{words} words, not {self.min_words} to {self.max_words}"
        if num_hashtags > self.max_hashtags:
            return f"{num_hashtags} hashtags, at most {self.max_hashtags}"
        if _PREAMBLE.match(body):
            return "begins with something else than the post"
        if "#" in body or "[" in body or "<!--" in body:
            return "hashtags, citations or comments inside the post"
        return None


@dataclass(frozen=True, kw_only=True)
class Voice:
    """Scores 0 to 1 how near a post is to the posts of the house, by the features of `features.py`.

    A feature within `near` standard deviations of the house's mean counts in full, one beyond `far` not at all. The
    score is the mean of all features times the worst one, so that no feature can be traded for the others.
    """

    deterministic: ClassVar[bool] = True
    in_process: ClassVar[bool] = True

    posts: str | None = None
    """A JSONL file with posts of your own house in the column `completion`; null takes those of the example."""
    near: float = 2.0
    """Distance that still counts in full, in standard deviations."""
    far: float = 6.0
    """Distance from which a feature counts nothing, in standard deviations."""

    def __post_init__(self) -> None:
        if not 0 <= self.near < self.far:
            raise ValueError(f"near={self.near} must be at least 0 and less than far={self.far}")
        if self.posts is not None and not Path(self.posts).is_file():
            raise ValueError(f"posts={self.posts} is not a file")

    def grade(self, completion: str) -> Score:
        """Compare the features with those of the house."""
        answer = final_answer(completion)
        if len(answer) > MAX_CHARS:
            return Score(value=0.0, status=Status.INVALID_OUTPUT, reason=f"longer than {MAX_CHARS} characters")
        post, hashtags = read_post(answer)
        features = features_of(post.removesuffix(hashtags or ""))
        if features is None:
            return Score(value=0.0, status=Status.NO_ANSWER)
        house = house_features(self.posts)
        distances = {name: abs(value - house[name][0]) / house[name][1] for name, value in features.items()}
        shares = [min(1.0, max(0.0, (self.far - far) / (self.far - self.near))) for far in distances.values()]
        farthest = max(distances, key=lambda name: distances[name])
        reason = f"farthest: {farthest} {features[farthest]:.2g}, house {house[farthest][0]:.2g}"
        return Score(value=min(shares) * sum(shares) / len(shares), reason=reason)


@functools.cache
def house_features(posts: str | None) -> Mapping[str, tuple[float, float]]:
    """Return mean and standard deviation of each feature; the deviation is at least that of `FLOORS`."""
    bodies = []
    for text in _posts(posts).values():
        post, hashtags = read_post(text)
        bodies.append(post.removesuffix(hashtags or ""))
    measured = [features for features in map(features_of, bodies) if features is not None]
    if len(measured) < 2:
        raise ValueError(f"{posts} has fewer than two posts")
    house = {}
    for name, floor in FLOORS.items():
        values = [features[name] for features in measured]
        mean = sum(values) / len(values)
        deviation = (sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5
        house[name] = mean, max(floor, deviation)
    return house


@functools.cache
def _posts(file: str | None) -> Mapping[str, str]:
    """Return the posts of a file by id."""
    path = POSTS if file is None else Path(file)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return {str(row.get("own_post", number)): row["completion"] for number, row in enumerate(rows)}


@dataclass(frozen=True, kw_only=True)
class Told:
    """Scores whether a post tells the news: the share of `least` facts of the row that occur in it, at most 1."""

    deterministic: ClassVar[bool] = True
    in_process: ClassVar[bool] = True

    column: str = "facts"
    """The task's column with the numbers and names that belong to the news."""
    least: int = 2
    """Facts that suffice; all of them where a row has fewer."""

    def grade(self, completion: str, task: Task) -> Score | None:
        """Look for the facts; 6 and six are the same."""
        facts = task.item.get(self.column)
        if not facts:
            return None
        post, hashtags = read_post(completion)
        text = f" {' '.join(_words(post.removesuffix(hashtags or '')[:MAX_CHARS]))} "
        told = [fact for fact in facts if f" {' '.join(_words(fact))} " in text]
        return Score(
            value=min(1.0, len(told) / min(self.least, len(facts))), reason=f"tells {', '.join(told) or 'none'}"
        )


@dataclass(frozen=True, kw_only=True)
class Original:
    """Scores 1 up to `free_words` words in a row from another post of the house, then falls to 0 at `max_words`.

    The row's own post, in the column `own_post`, does not count: it is the demonstration. Measure copies of it on tasks
    that are not trained.
    """

    deterministic: ClassVar[bool] = True
    in_process: ClassVar[bool] = True

    posts: str | None = None
    """A JSONL file as for `Voice`; null takes the posts of the example."""
    free_words: int = 7
    """Longest common span that still scores 1, in words."""
    max_words: int = 20
    """Shortest common span that scores 0, in words."""

    def __post_init__(self) -> None:
        if not 1 <= self.free_words < self.max_words:
            raise ValueError(
                f"free_words={self.free_words} must be at least 1 and less than max_words={self.max_words}"
            )

    def grade(self, completion: str, task: Task) -> Score:
        """Measure the longest span."""
        own = str(task.item.get("own_post"))
        span = self._longest_span(_words(read_post(completion)[0][:MAX_CHARS]), own)
        excess = max(0, len(span) - self.free_words)
        reason = f"{len(span)} words in a row: {' '.join(span)}"
        return Score(value=1.0 - min(1.0, excess / (self.max_words - self.free_words)), reason=reason)

    def _longest_span(self, words: list[str], own: str) -> tuple[str, ...]:
        longest: tuple[str, ...] = ()
        for num_words in range(1, self.max_words + 1):
            known = _runs_of_posts(self.posts, num_words)
            found = next((run for run in _runs(words, num_words) if known.get(run, frozenset()) - {own}), None)
            if found is None:
                break
            longest = found
        return longest


@functools.cache
def _runs_of_posts(file: str | None, num_words: int) -> Mapping[tuple[str, ...], frozenset[str]]:
    """Return all runs of a number of words in the posts of a file, with the ids of their posts."""
    runs: dict[tuple[str, ...], set[str]] = {}
    for name, text in _posts(file).items():
        for run in _runs(_words(read_post(text)[0]), num_words):
            runs.setdefault(run, set()).add(name)
    return {run: frozenset(names) for run, names in runs.items()}


def _runs(words: list[str], num_words: int) -> Iterator[tuple[str, ...]]:
    return (tuple(words[start : start + num_words]) for start in range(len(words) - num_words + 1))


def _words(text: str) -> list[str]:
    """Return the words in small letters, with small numbers in digits."""
    return [_NUMBERS.get(word, word) for word in _WORD.findall(text.casefold())]
