"""Splits rows so that nothing of the test looks like anything trained."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from rft.data.clusters import clusters
from rft.data.hygiene.lookalikes import find_lookalikes
from rft.data.hygiene.rows import DataRow
from rft.types import Split


def split_rows(
    rows: Sequence[DataRow], *, test_share: float, validation_share: float, group_by: str | None, seed: int
) -> dict[Split, list[DataRow]]:
    """Split rows so that rows of one group, and rows that look alike, stay together.

    A hash of the seed and the group gives each group a number in [0, 1), which selects its split. The actual shares
    vary around those asked for. Adding a row moves no other group, unless the row links two of them.

    Args:
        rows: The rows.
        test_share: Share of the groups for the test.
        validation_share: Share of the groups for validation.
        group_by: Column whose values stay together; rows without a value are groups of their own.
        seed: Selects the groups.
    """
    groups = clusters([*((number, number) for number in range(len(rows))), *_links(rows, group_by)])
    split_of: dict[int, Split] = {}
    for group in groups:
        # The smallest text names the group, so that the order of the rows does not matter.
        draw = _draw(f"{seed} {min(_group_name(rows[number], group_by) for number in group)}")
        limits = ((Split.TEST, test_share), (Split.VALIDATION, test_share + validation_share), (Split.TRAIN, 1.0))
        split = next(split for split, limit in limits if draw < limit)
        split_of |= dict.fromkeys(group, split)
    return {split: [row for number, row in enumerate(rows) if split_of[number] == split] for split in Split}


def _group_name(row: DataRow, group_by: str | None) -> str:
    value = None if group_by is None else row.content.get(group_by)
    return row.prompt if value is None else str(value)


def _draw(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6]) / 2**48


def _links(rows: Sequence[DataRow], group_by: str | None) -> list[tuple[int, int]]:
    """Return pairs of rows that must stay together."""
    alike = find_lookalikes([row.prompt for row in rows])
    links = [(pair.first, pair.second) for pair in alike.pairs]
    links += [(first, other) for first, *others in alike.equal for other in others]
    first_of: dict[str, int] = {}
    for number, row in enumerate(rows):
        if group_by is not None and (value := row.content.get(group_by)) is not None:
            links.append((first_of.setdefault(str(value), number), number))
    return links
