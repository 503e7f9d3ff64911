"""`rft data`: looks at task files and demonstrations before anything is trained on them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rft.config.data_files import DataCheckConfig, DataCleanConfig, DataFilesConfig, DataSplitConfig
from rft.data.files import Flaw
from rft.data.hygiene.data_folder import write_folder
from rft.data.hygiene.findings import PERSONAL, Finding, find_problems
from rft.data.hygiene.rows import DataRow, read_data_rows
from rft.data.hygiene.splitting import split_rows
from rft.data.hygiene.statistics import Length, num_words, statistics_of, too_long
from rft.errors import DataError, UsageError
from rft.reliability.durable import replace_file
from rft.types import Split
from rft.wording import plural

UNREADABLE = "unreadable"
"""Name of the finding of rows that cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The rows of all sources, and what could not be read.

    Example:
        Loaded(rows={Split.TRAIN: [row_1, row_2]}, flaws={Split.TRAIN: []}, length=num_words, limit=None)
    """

    rows: dict[Split, list[DataRow]]
    """Rows by split."""
    flaws: dict[Split, list[Flaw]]
    """Unreadable rows by split."""
    length: Length
    """Returns the length of a text, in tokens with a model and otherwise in words."""
    limit: int | None
    """The context in tokens; None without a model."""


def load_data(config: DataFilesConfig) -> Loaded:
    """Read all sources.

    Raises:
        UsageError: No source is given, or a source has no rows, or it or the model cannot be used; contains all
            problems.
    """
    problems: list[str] = []
    rows: dict[Split, list[DataRow]] = {}
    flaws: dict[Split, list[Flaw]] = {}
    if not config.sources():
        problems.append("no file is given: name at least one with train=, validation= or test=")
    if config.max_context_tokens is not None and config.model is None:
        problems.append(f"max_context_tokens={config.max_context_tokens}: name the model too, whose tokens count")
    for split, source in config.sources().items():
        try:
            rows[split], flaws[split] = read_data_rows(source, key=str(split), split=split, columns=config.columns)
            if not (rows[split] or flaws[split]):
                problems.append(f"{split}={source} has no rows; give a source with rows, or leave {split} out")
        except DataError as error:
            problems += error.problems
    length: Length = num_words
    limit = config.max_context_tokens
    if config.model is not None:
        try:
            length, own = _tokens_of(config.model)
            limit = config.max_context_tokens or own
        except UsageError as error:
            problems += error.problems
    if problems:
        raise UsageError("task files", problems)
    return Loaded(rows=rows, flaws=flaws, length=length, limit=limit)


def _tokens_of(model: str) -> tuple[Length, int]:
    """Return a function that counts tokens, and the model's longest context."""
    from rft.models.base_model import context_tokens, load_tokenizer, locate

    folder = locate(model, key="model")
    tokenizer = load_tokenizer(folder, None, needs_template=False)
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False)), context_tokens(folder)


def data_statistics(config: DataFilesConfig) -> dict[str, Any]:
    """Return the numbers of each split as JSON values, with the unit of lengths.

    Raises:
        UsageError: A source or the model cannot be used.
    """
    loaded = load_data(config)
    unit = "words" if config.model is None else "tokens"
    splits = {str(split): statistics_of(own, loaded.length) for split, own in loaded.rows.items()}
    return {"unit": unit, "splits": splits, "unreadable": sum(map(len, loaded.flaws.values()))}


def check_data(config: DataCheckConfig) -> list[Finding]:
    """Return everything found, errors first; write it to `report`.

    Raises:
        UsageError: A source, the model or the report cannot be used.
        WriteError: The report cannot be written.
    """
    target = None if config.report is None else _new(config.report, "report")
    if target is not None and not target.parent.is_dir():
        raise UsageError("task files", [f"report={config.report}: the folder {target.parent} does not exist; make it"])
    loaded = load_data(config)
    findings = _findings(loaded, config.group_by)
    if config.pii == "refuse":
        findings = [replace(one, level="error") if one.name == PERSONAL else one for one in findings]
    findings.sort(key=lambda one: one.level != "error")
    if target is not None:
        values = [
            {"name": one.name, "level": one.level, "message": one.message, "places": one.places} for one in findings
        ]
        replace_file(target, [json.dumps(values, indent=1, ensure_ascii=False).encode() + b"\n"])
    return findings


def _findings(loaded: Loaded, group_by: str | None) -> list[Finding]:
    """Return what is found in readable rows, and the unreadable ones."""
    findings = find_problems(loaded.rows, group_by=group_by)
    if loaded.limit is not None:
        every = [row for own in loaded.rows.values() for row in own]
        findings += too_long(every, loaded.length, loaded.limit)
    if places := tuple(f"{flaw.where}: {flaw.problem}" for own in loaded.flaws.values() for flaw in own):
        unread = plural(len(places), "row")
        findings.insert(0, Finding(name=UNREADABLE, level="error", message=f"{unread} cannot be used", places=places))
    return findings


def clean_data(config: DataCleanConfig) -> dict[str, Any]:
    """Write cleaned files, the rows left out with their reasons, and a card; return the card.

    Raises:
        UsageError: A source, the model or the folder cannot be used.
        WriteError: A file cannot be written.
    """
    target = _new(config.out, "out")
    loaded = load_data(config)
    dropped: dict[DataRow, dict[str, str]] = defaultdict(dict)
    for finding in _findings(loaded, config.group_by):
        if finding.name != PERSONAL or config.pii == "drop":
            for row, reason in finding.drop.items():
                dropped[row].setdefault(finding.name, reason)
    for split, flaws in loaded.flaws.items():
        for flaw in flaws:
            unread = DataRow(where=flaw.where, split=split, content={}, prompt="", answer=None)
            dropped[unread] = {UNREADABLE: flaw.problem}
    return write_folder(
        target,
        loaded.rows,
        dropped=dropped,
        sources={str(split): source for split, source in config.sources().items()},
        licence=config.licence,
        is_masked=config.pii != "keep",
        settings=_settings(config),
    )


def split_data(config: DataSplitConfig) -> dict[str, Any]:
    """Split a file, write the splits and a card; return the card.

    Raises:
        UsageError: The file or the folder cannot be used, rows cannot be read, or a split gets no row.
        WriteError: A file cannot be written.
    """
    target = _new(config.out, "out")
    if config.test_share + config.validation_share >= 1:
        raise UsageError("split", ["test_share and validation_share together must stay below 1"])
    rows, flaws = read_data_rows(config.data, key="data", split=Split.TRAIN, columns=config.columns)
    problems = [f"{flaw.where}: {flaw.problem}" for flaw in flaws]
    if config.group_by is not None and not any(row.content.get(config.group_by) is not None for row in rows):
        problems.append(f"group_by={config.group_by}: no row has this column")
    if problems:
        raise UsageError("split", problems)
    shares = {"test_share": config.test_share, "validation_share": config.validation_share}
    parts = split_rows(rows, **shares, group_by=config.group_by, seed=config.seed)
    wanted = [Split.TRAIN, Split.TEST, *([Split.VALIDATION] if config.validation_share else [])]
    if empty := [str(split) for split in wanted if not parts[split]]:
        raise UsageError(
            "split", [f"{', '.join(empty)} would get no row: too few rows or groups for these shares; try another seed"]
        )
    return write_folder(
        target,
        {split: parts[split] for split in wanted},
        dropped={},
        sources={"data": config.data},
        licence=config.licence,
        is_masked=False,
        settings=_settings(config),
    )


def _settings(config: DataFilesConfig | DataSplitConfig) -> Mapping[str, Any]:
    return config.model_dump(mode="json", exclude={"out", "licence", "train", "validation", "test", "data"})


def _new(name: str, key: str) -> Path:
    """Return the path of something to write.

    Raises:
        UsageError: It exists, or the place of a source would be overwritten.
    """
    path = Path(name).expanduser()
    if path.exists():
        raise UsageError("task files", [f"{key}={name} exists already; choose another name, or remove it"])
    return path
