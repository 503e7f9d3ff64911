"""What is found in the rows of task files: leakage, duplicates, conflicts, personal data, and more."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from rft.data.hygiene.lookalikes import (
    MIN_WORDS,
    Likeness,
    Lookalikes,
    are_alike,
    find_contained,
    find_lookalikes,
    words_of,
)
from rft.data.hygiene.personal_data import find_personal_in
from rft.data.hygiene.rows import DataRow
from rft.types import Split
from rft.wording import plural

MAX_LABELS = 20
"""Most different answers that count as labels."""
MIN_ROWS_PER_LABEL = 5
"""Fewer rows per answer mean that answers are no labels."""
MAX_LABEL_SHARE = 0.8
"""A label with a larger share is skewed: a constant answer scores as much."""
MIN_ANSWER_WORDS = 3
"""Shorter answers stand in prompts by chance, or because the prompt lists the choices."""

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One kind of problem, with all of its places.

    Example:
        Finding(name="leakage", level="error", message="2 rows of test are also in train: 2 same words",
                places=("test.jsonl:3 = train.jsonl:17 (same words)", ...))
    """

    name: str
    """Name of the check, such as `leakage`."""
    level: Level
    """`error` makes `rft data check` fail; a note only says what was not looked at."""
    message: str
    """What was found, with its count."""
    places: tuple[str, ...] = ()
    """All places."""
    drop: Mapping[DataRow, str] = field(default_factory=dict)
    """Rows that `rft data clean` leaves out, each with the reason."""


Check = Callable[[Mapping[Split, Sequence[DataRow]]], Iterator[Finding]]


def find_problems(rows: Mapping[Split, Sequence[DataRow]], *, group_by: str | None = None) -> list[Finding]:
    """Return everything found in the rows of all splits; errors first.

    Args:
        rows: The rows of each split.
        group_by: Column whose values must not be shared between splits, such as the customer.
    """
    checks: list[Check] = [_alike, _contained, _conflicts, _answer_in_prompt, _skew, _personal]
    if group_by is not None:
        checks.append(lambda rows: _groups(rows, group_by))
    found = [finding for check in checks for finding in check(rows)]
    return sorted(found, key=lambda finding: ("error", "warning", "note").index(finding.level))


def _alike(rows: Mapping[Split, Sequence[DataRow]]) -> Iterator[Finding]:
    """Prompts that look alike, between splits and inside of each."""
    every = [row for split in Split for row in rows.get(split, ())]
    alike = find_lookalikes([row.prompt for row in every])
    pairs = list(_between_rows(every, alike))
    for one, other in itertools.combinations(Split, 2):
        # The earlier split loses the row, so that measurements keep theirs.
        if between := [pair for pair in pairs if (pair[0].split, pair[1].split) == (one, other)]:
            yield Finding(
                name="leakage",
                level="error",
                message=f"{plural(len({first for first, _, _ in between}), 'row')} of {one} with a look-alike in "
                f"{other}: {_by_likeness(between)}",
                places=tuple(_shown(first, second, likeness) for first, second, likeness in between),
                drop={first: f"looks like {second.where} ({likeness})" for first, second, likeness in between},
            )
    for split in Split:
        if inside := [pair for pair in pairs if pair[0].split == pair[1].split == split]:
            yield Finding(
                name="duplicates",
                level="warning",
                message=f"{plural(len({second for _, second, _ in inside}), 'row')} of {split} with an earlier "
                f"look-alike: {_by_likeness(inside)}",
                places=tuple(_shown(second, first, likeness) for first, second, likeness in inside),
                drop={second: f"looks like {first.where} ({likeness})" for first, second, likeness in inside},
            )
    if alike.short:
        yield Finding(
            name="look-alikes",
            level="note",
            message=f"{plural(len(alike.short), 'prompt')} with fewer than {MIN_WORDS} words, not counting numbers: "
            "compared for the same words alone",
        )
    if alike.templated:
        yield Finding(
            name="look-alikes",
            level="note",
            message=f"{plural(len(alike.templated), 'prompt')} made from templates, which all look alike: compared for "
            "the same words alone",
            places=tuple(every[number].where for number in alike.templated),
        )


def _between_rows(every: Sequence[DataRow], alike: Lookalikes) -> Iterator[tuple[DataRow, DataRow, Likeness]]:
    """Yield pairs of rows that look alike, the row of the earlier split first.

    Between two splits, every row of the earlier one that looks like any of the later one is in a pair. Inside of a
    split, every row but the first is.
    """
    equal = {numbers[0]: [every[number] for number in numbers] for numbers in alike.equal}
    for rows in equal.values():
        yield from ((*pair, Likeness.SAME) for pair in _across(rows, rows))
        for split in Split:
            first, *later = [row for row in rows if row.split == split] or [rows[0]]
            yield from ((first, row, Likeness.SAME) for row in later)
    for pair in alike.pairs:
        some, others = (equal.get(number, [every[number]]) for number in (pair.first, pair.second))
        yield from ((*both, pair.likeness) for both in [*_across(some, others), *_across(others, some)])
        for split in Split:
            firsts = [next((row for row in rows if row.split == split), None) for rows in (some, others)]
            if firsts[0] is not None and firsts[1] is not None:
                yield firsts[0], firsts[1], pair.likeness


def _across(some: Sequence[DataRow], others: Sequence[DataRow]) -> Iterator[tuple[DataRow, DataRow]]:
    """Yield each row of an earlier split with the first row of each later split."""
    for one, other in itertools.combinations(Split, 2):
        if (second := next((row for row in others if row.split == other), None)) is not None:
            yield from ((row, second) for row in some if row.split == one)


def _shown(one: DataRow, other: DataRow, likeness: Likeness) -> str:
    return f"{one.where} = {other.where} ({likeness})"


def _by_likeness(pairs: Sequence[tuple[DataRow, DataRow, Likeness]]) -> str:
    counts = Counter(likeness for _, _, likeness in pairs)
    return ", ".join(f"{counts[likeness]} {likeness}" for likeness in Likeness if counts[likeness])


def _contained(rows: Mapping[Split, Sequence[DataRow]]) -> Iterator[Finding]:
    """Prompts and answers of test and validation rows that stand inside rows of training."""
    trained = rows.get(Split.TRAIN, ())
    everything = [row.text for row in trained]
    for split, name in itertools.product((Split.VALIDATION, Split.TEST), ("prompt", "answer")):
        held_out = [row for row in rows.get(split, ()) if getattr(row, name)]
        if not (held_out and trained):
            continue
        pairs, skipped = find_contained([getattr(row, name) for row in held_out], everything)
        inside = [
            (held_out[one], trained[other])
            for one, other in pairs
            if not are_alike(held_out[one].prompt, trained[other].prompt)  # leakage, which is told apart
        ]
        if inside:
            yield Finding(
                name="containment",
                level="error",
                message=f"{plural(len({row for row, _ in inside}), name)} of {split} inside rows of train",
                places=tuple(f"{name} of {one.where} in {other.where}" for one, other in inside),
                drop={other: f"contains the {name} of {one.where}" for one, other in inside},
            )
        if skipped:
            yield Finding(
                name="containment",
                level="note",
                message=f"{plural(len(skipped), name)} of {split} with fewer than ten words, or made from a template: "
                "not searched for inside rows of train",
            )


def _conflicts(rows: Mapping[Split, Sequence[DataRow]]) -> Iterator[Finding]:
    """Equal prompts with different answers."""
    by_prompt: dict[str, list[DataRow]] = defaultdict(list)
    for row in itertools.chain.from_iterable(rows.values()):
        if row.answer is not None:
            by_prompt[row.prompt.strip()].append(row)
    conflicts = [alike for alike in by_prompt.values() if len({str(row.answer).strip() for row in alike}) > 1]
    if conflicts:
        yield Finding(
            name="conflicting answers",
            level="warning",
            message=f"{plural(len(conflicts), 'prompt')} with different answers",
            places=tuple(" != ".join(f"{row.where} ({_brief(row.answer)})" for row in alike) for alike in conflicts),
            drop={
                row: f"{other.where} has the same prompt and another answer"
                for alike in conflicts
                for row in alike
                if (other := _contradiction(row, alike)) is not None
            },
        )


def _contradiction(row: DataRow, alike: Sequence[DataRow]) -> DataRow | None:
    """Return the first row with another answer in the same split or a later one; measurements keep their rows."""
    later = tuple(Split)[tuple(Split).index(row.split) :]
    others = (other for other in alike if str(other.answer).strip() != str(row.answer).strip())
    return next((other for other in others if other.split in later), None)


def _brief(text: str | None) -> str:
    one_line = " ".join((text or "").split())
    return one_line if len(one_line) <= 40 else f"{one_line[:39]}…"


def _answer_in_prompt(rows: Mapping[Split, Sequence[DataRow]]) -> Iterator[Finding]:
    """Prompts that contain their own answer, word by word."""
    answered = [row for row in itertools.chain.from_iterable(rows.values()) if row.answer]
    long = [row for row in answered if len(words_of(row.answer or "")) >= MIN_ANSWER_WORDS]
    told = [row for row in long if f" {' '.join(words_of(row.answer or ''))} " in f" {' '.join(words_of(row.prompt))} "]
    if told:
        yield Finding(
            name="answer in prompt",
            level="warning",
            message=f"{plural(len(told), 'prompt')} with the whole answer inside",
            places=tuple(row.where for row in told),
        )
    if len(answered) > len(long):
        yield Finding(
            name="answer in prompt",
            level="note",
            message=f"{plural(len(answered) - len(long), 'answer')} of fewer than {MIN_ANSWER_WORDS} words: not "
            "searched for in their prompts, where they stand by chance or as one of the choices",
        )


def labels_of(rows: Sequence[DataRow]) -> Counter[str]:
    """Return the rows of each answer if answers are labels: few, and each of several rows; otherwise nothing."""
    labels = Counter(row.answer.strip() for row in rows if row.answer is not None)
    is_few = 1 <= len(labels) <= MAX_LABELS and labels.total() >= MIN_ROWS_PER_LABEL * len(labels)
    return labels if is_few else Counter()


def _skew(rows: Mapping[Split, Sequence[DataRow]]) -> Iterator[Finding]:
    """Labels that make up most rows of a split."""
    for split, own in rows.items():
        for label, count in labels_of(own).most_common(1):
            if count > MAX_LABEL_SHARE * len(own):
                yield Finding(
                    name="label skew",
                    level="warning",
                    message=f"{count / len(own):.0%} of {split} have the answer {_brief(label)!r}: a policy that "
                    "always says so scores as much",
                )


def _personal(rows: Mapping[Split, Sequence[DataRow]]) -> Iterator[Finding]:
    """Mail addresses, phone numbers, cards, IBANs and keys."""
    places = []
    kinds: Counter[str] = Counter()
    affected: dict[DataRow, str] = {}
    for row in itertools.chain.from_iterable(rows.values()):
        if own := Counter(one.kind for one in find_personal_in(row.content)):
            kinds += own
            places.append(f"{row.where} ({', '.join(own)})")
            affected[row] = f"contains personal data: {', '.join(own)}"
    if kinds:
        yield Finding(
            name=PERSONAL,
            level="warning",
            message=f"{plural(len(affected), 'row')}: "
            + ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()),
            places=tuple(places),
            drop=affected,
        )


PERSONAL = "personal data"
"""Name of the finding of personal data, which `pii` treats."""


def _groups(rows: Mapping[Split, Sequence[DataRow]], column: str) -> Iterator[Finding]:
    """Values of a column that two splits share."""
    groups: dict[Split, dict[str, list[DataRow]]] = {split: defaultdict(list) for split in rows}
    without = [row.where for own in rows.values() for row in own if row.content.get(column) is None]
    for split, own in rows.items():
        for row in own:
            if row.content.get(column) is not None:
                groups[split][str(row.content[column])].append(row)
    for one, other in itertools.combinations([split for split in Split if split in rows], 2):
        if shared := [value for value in groups[one] if value in groups[other]]:
            yield Finding(
                name="groups",
                level="error",
                message=f"{plural(len(shared), 'value')} of {column!r} in {one} and in {other}",
                places=tuple(
                    f"{_brief(value)}: {groups[one][value][0].where}, {groups[other][value][0].where}"
                    for value in shared
                ),
                drop={
                    row: f"{column}={_brief(value)} is also in {other}"
                    for value in shared
                    for row in groups[one][value]
                },
            )
    if without:
        yield Finding(
            name="groups",
            level="warning",
            message=f"{plural(len(without), 'row')} without a value of {column!r}",
            places=tuple(without),
        )
