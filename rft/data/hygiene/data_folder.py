"""A folder of cleaned or split task files with a card. The sources stay as they are."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rft import __version__
from rft.data.hygiene.personal_data import find_personal_in, with_masks
from rft.data.hygiene.rows import DataRow
from rft.reliability.durable import replace_file, writing
from rft.types import Split

CARD = "card.json"
"""The card of a folder of task files: its counts, hashes, sources and licence."""
DROPPED = "dropped.jsonl"
"""The rows left out, each with `where`, `reasons` and its content."""


def write_folder(
    folder: Path,
    rows: Mapping[Split, Sequence[DataRow]],
    *,
    dropped: Mapping[DataRow, Mapping[str, str]],
    sources: Mapping[str, str],
    licence: str | None,
    is_masked: bool,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Write the rows that are not dropped, the dropped ones with their reasons, and the card; return the card.

    Args:
        folder: The folder, which does not exist yet.
        rows: All rows by split.
        dropped: The reasons of each row that is left out, by the name of the check.
        sources: The sources by name.
        licence: Licence of the data.
        is_masked: Whether to mask personal data, also that of the rows left out.
        settings: The settings, for the card.

    Raises:
        WriteError: A file cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True)
    files = {}
    for split, own in rows.items():
        kept = [row.content for row in own if row not in dropped]
        content = _json_lines(map(with_masks, kept) if is_masked else kept)
        replace_file(folder / f"{split}.jsonl", [content])
        files[f"{split}.jsonl"] = {"rows": len(kept), "sha256": hashlib.sha256(content).hexdigest()}
    if dropped:
        lines = []
        for row, why in dropped.items():
            told = {"reasons": dict(why), "row": row.content}
            lines.append({"where": row.where, **(with_masks(told) if is_masked else told)})
        replace_file(folder / DROPPED, [_json_lines(lines)])
    reasons = Counter(next(iter(why)) for why in dropped.values())
    splits = Counter(str(row.split) for row in dropped)
    masks = Counter(
        one.kind
        for own in rows.values()
        for row in own
        if is_masked and row not in dropped
        for one in find_personal_in(row.content)
    )
    card = {
        "files": files,
        "dropped": {"rows": len(dropped), "splits": splits, "reasons": dict(reasons.most_common())},
        "masked": dict(masks.most_common()),
        "sources": dict(sources),
        "licence": licence,
        "settings": dict(settings),
        "rft": __version__,
    }
    replace_file(folder / CARD, [json.dumps(card, indent=1, ensure_ascii=False).encode() + b"\n"])
    return card


def _json_lines(rows: Iterable[Any]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False, default=str).encode() + b"\n" for row in rows)


def card_of(file: Path) -> dict[str, Any] | None:
    """Return what the card beside a file says about it; None without a card that names it.

    Returns:
        `card` (its SHA-256), `licence`, and `is_unchanged`: whether the file has the hash of the card.
    """
    card = file.parent / CARD
    if not (card.is_file() and file.is_file()):
        return None
    content = card.read_bytes()
    try:
        values = json.loads(content)
        known = values["files"][file.name]["sha256"]
    except (ValueError, KeyError, TypeError):
        return None  # a card of something else
    return {
        "card": hashlib.sha256(content).hexdigest(),
        "licence": values.get("licence"),
        "is_unchanged": hashlib.sha256(file.read_bytes()).hexdigest() == known,
    }
