"""Groups what links connect, directly or through others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable


def clusters(links: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Return the numbers that links connect, directly or through others: one ascending list for each cluster."""
    leader: dict[int, int] = {}

    def find(number: int) -> int:
        while leader.setdefault(number, number) != number:
            leader[number] = number = leader[leader[number]]
        return number

    for one, other in links:
        leader[find(other)] = find(one)
    members = defaultdict(list)
    for number in sorted(leader):
        members[find(number)].append(number)
    return list(members.values())
