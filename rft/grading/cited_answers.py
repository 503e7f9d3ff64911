"""Reads an answer that cites passages: `Water it once a week [p3]`.

A citation is the id of a passage in square brackets, or several ids with commas: `[p3]`, `[p3, p7]`. Ids are compared
as they are written, so one with a full-width digit cites nothing that exists. A bracket with a blank inside, as in
`[see below]`, is no citation, and neither is a link, `[text](address)`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from rft.grading.answers import final_answer
from rft.turns import PASSAGES
from rft.types import Score, Status, Task

ABOUT_PASSAGES = frozenset({"abstains", "cites", "claims", "quotes", "supported"})
"""Graders that compare an answer with its passages, not with the right answer."""
IS_LEFT_OUT = "passages_left_out"
"""Column that retrieval adds to a row: whether its relevant passages are left out."""
MAX_CHARS = 20_000
"""A longer answer is not read."""
LEAST_PASTED_WORDS = 8
"""A passage with fewer words is not told from an answer."""

_MARKER = re.compile(r"(?<!\\)\[([^\[\]\n]{1,500})\](?!\()")
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What a prompt showed.

    Example:
        Sources(texts={"p1": "Water it once a week.", "p2": "..."}, relevant=frozenset({"p1"}), is_left_out=False)
    """

    texts: Mapping[str, str]
    """Text of each passage by id, in the order of the prompt."""
    relevant: frozenset[str] | None
    """Ids that the row names as relevant, shown or not; None if it does not say."""
    is_left_out: bool
    """Whether retrieval left out the relevant passages, so that the row expects another answer."""

    @property
    def cited_best(self) -> frozenset[str]:
        """The relevant passages that are shown: what an answer should cite."""
        return (self.relevant or frozenset()) & self.texts.keys()

    @property
    def should_decline(self) -> bool:
        """Whether the row expects to hear that the sources do not say: relevant ones are left out, or none exist."""
        return self.is_left_out or self.relevant == frozenset()

    @property
    def were_missed(self) -> bool:
        """Whether the search found none of the relevant passages, which the row does not expect."""
        return bool(self.relevant) and not self.should_decline and not self.cited_best


@dataclass(frozen=True, kw_only=True)
class CitedAnswer:
    """The final answer of a completion, with its citations."""

    text: str
    """The answer."""
    sources: Sources
    """The passages of its prompt."""

    @cached_property
    def cited(self) -> tuple[str, ...]:
        """What it cites, each once: ids of passages, and ids that do not exist."""
        return tuple(dict.fromkeys(name for _, names in self.markers for name in names))

    @cached_property
    def markers(self) -> list[tuple[re.Match[str], list[str]]]:
        """Each citation, with what it cites, in order."""
        return list(_markers(self.text, self.sources.texts))

    @cached_property
    def groups(self) -> list[tuple[int, list[str]]]:
        """Where each group of citations begins, and what it cites. Only blanks and commas divide those of a group."""
        groups: list[tuple[int, list[str]]] = []
        end = -1
        for marker, names in self.markers:
            if groups and not self.text[end : marker.start()].strip(" ,;\t\n"):
                groups[-1][1].extend(names)
            else:
                groups.append((marker.start(), list(names)))
            end = marker.end()
        return groups

    @cached_property
    def bare(self) -> str:
        """The answer without its citations."""
        return without_citations(self.text, self.sources.texts)

    def refusal(self, max_copied_words: int) -> Score | None:
        """Return the score of an answer that is too long, says nothing, or pastes a passage; None for any other.

        Args:
            max_copied_words: Words in a row from a passage that still count as an answer.
        """
        if len(self.text) > MAX_CHARS:
            reason = f"longer than {MAX_CHARS:,} characters"
            return Score(value=0.0, status=Status.INVALID_OUTPUT, reason=reason)
        if not any(map(str.isalnum, self.bare)):
            return Score(value=0.0, status=Status.NO_ANSWER)
        pasted = pasted_from(self.bare, self.sources.texts, max_copied_words)
        return None if pasted is None else Score(value=0.0, answer=self.text[:200], reason=f"pastes passage {pasted}")


def read_answer(completion: str, task: Task, relevant: str) -> CitedAnswer:
    """Return the final answer with its citations.

    Args:
        completion: The completion.
        task: Its task, with passages.
        relevant: Column with the ids of the relevant passages.

    Raises:
        LookupError: The task has no passages.
        ValueError: Its passages are not a list of objects with `id` and `text`.
    """
    return CitedAnswer(text=final_answer(completion), sources=read_sources(task, relevant))


def read_sources(task: Task, relevant: str) -> Sources:
    """Return the passages of a task. Raises like `read_answer`."""
    if PASSAGES not in task.item:
        raise LookupError(
            f"task {task.id} has no passages; set retrieval=<store>, add a tool that searches, or give its row a "
            'column "passages" with [{"id": ..., "text": ...}]'
        )
    passages = task.item[PASSAGES]
    if not isinstance(passages, list | tuple) or not all(map(_is_passage, passages)):
        raise ValueError(
            f"the passages of task {task.id} are not a list of objects with id and text: {passages!r:.200}"
        )
    value = task.item.get(relevant)
    values = value if isinstance(value, list | tuple) else [value]
    return Sources(
        texts={passage["id"]: passage["text"] for passage in passages},
        relevant=None if value is None else frozenset(map(str, values)),
        is_left_out=task.item.get(IS_LEFT_OUT) is True,
    )


def without_citations(text: str, ids: Collection[str]) -> str:
    """Return a text without its citations of passages that exist; other brackets may belong to the answer.

    Args:
        text: The text.
        ids: Ids of the passages.
    """
    parts, start = [], 0
    for match, names in _markers(text, ids):
        if not any(name in ids for name in names):
            continue
        parts.append(text[start : match.start()].rstrip(" "))
        start = match.end()
    return "".join([*parts, text[start:]]).strip()


def pasted_from(text: str, passages: Mapping[str, str], max_copied_words: int) -> str | None:
    """Return the id of a passage that a text repeats: whole, or for more than a number of words in a row.

    Args:
        text: The text, without citations.
        passages: Passages by id. One with fewer than eight words is never found.
        max_copied_words: Words in a row that are no repetition.
    """
    answer = words_of(text)
    runs: dict[int, set[str]] = {}
    for name, passage in passages.items():
        words = words_of(passage)
        size = min(max_copied_words + 1, len(words))
        if len(words) < LEAST_PASTED_WORDS:
            continue
        if size not in runs:
            runs[size] = set(_runs(answer, size))
        if any(run in runs[size] for run in _runs(words, size)):
            return name
    return None


def words_of(text: str) -> list[str]:
    """Return the words of a text in order: runs of letters and digits, in Unicode's form NFKC, without case."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def _runs(words: list[str], size: int) -> Iterator[str]:
    """Yield all runs of a number of words."""
    return (" ".join(words[start : start + size]) for start in range(len(words) - size + 1))


def _markers(text: str, ids: Collection[str]) -> Iterator[tuple[re.Match[str], list[str]]]:
    for match in _MARKER.finditer(text):
        content = match[1].strip()
        names = [content] if content in ids else [part.strip() for part in re.split("[,;]", content)]
        if all(name in ids or (name and not re.search(r"\s", name)) for name in names):
            yield match, names


def _is_passage(passage: object) -> bool:
    return isinstance(passage, Mapping) and all(isinstance(passage.get(key), str) for key in ("id", "text"))
