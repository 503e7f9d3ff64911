"""Checks a certificate: its signature, and every file and value that it lists."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rft.errors import UsageError
from rft.evidence.certificate.envelope import Signer
from rft.evidence.certificate.materials import RUN, Material, find_material, sha256_of
from rft.evidence.certificate.statement import (
    Statement,
    facts_of,
    files_of,
    read_statement,
    result_of,
    run_of,
)

MAX_SHOWN = 300
"""Characters of a value that a mismatch shows."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Something that differs from the certificate.

    Example:
        Mismatch("run/metrics.jsonl", "changed", "9b2e51c0...", "77aa01d3...")
    """

    name: str
    """The file, or the value."""
    kind: str
    """`changed`, `missing` (a file of the result), `unlisted`, or `signature`."""
    certified: str
    """The hash or value in the certificate; empty if it has none."""
    found: str
    """The hash or value here; empty if there is none."""

    def __str__(self) -> str:
        parts = [f"certified {self.certified}"] * bool(self.certified) + [f"here {self.found}"] * bool(self.found)
        return f"{self.kind:<9} {self.name}: {', '.join(parts)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """The result of a check.

    Example:
        Verification(result=Path("runs/x/adapter"), statement=Statement(...), signer="the given key", is_signed=True,
                     same=("run/config.yaml",), mismatches=(), absent={})
    """

    result: Path
    """The folder of the result."""
    statement: Statement
    """What the certificate says."""
    signer: str
    """Whose signature was asked for."""
    is_signed: bool
    """Whether the signer has signed it."""
    same: tuple[str, ...]
    """Files and values that agree with the certificate."""
    mismatches: tuple[Mismatch, ...]
    """Everything that does not."""
    absent: dict[str, str]
    """Listed files that are not on this machine, so that nobody checked them, with the place or the reason."""

    @property
    def is_valid(self) -> bool:
        """Whether the signature is the signer's, and nothing differs. Absent files do not count."""
        return not self.mismatches


def verify_result(path: Path, signer: Signer, *, base: Path | None = None) -> Verification:
    """Check the certificate of a result.

    Without the signer's signature, only files of the result and of its run are looked at: a stranger's certificate must
    not choose which other files of this machine are read.

    Args:
        path: A run folder, or the folder of its adapter or model.
        signer: Whose signature counts.
        base: Folder of the base model, if it lies elsewhere than the certificate says.

    Raises:
        UsageError: There is no certificate, or it cannot be read.
        SignError: Sigstore's trusted root cannot be read.
    """
    result = result_of(path)
    file = result / signer.file
    envelope, unsigned = signer.open(file)
    statement = read_statement(envelope.payload, file)
    is_signed = not unsigned
    run = run_of(result)
    mismatches = [] if is_signed else [Mismatch(str(file), "signature", "", unsigned)]
    same: list[str] = []
    absent: dict[str, str] = {}
    for name, sha256 in statement.subject.items():
        if not (result / name).is_file():
            mismatches.append(Mismatch(name, "missing", sha256, ""))
        else:
            _compare(name, sha256, sha256_of(result / name), same, mismatches)
    unlisted = [name for name in files_of(result) if name not in statement.subject]
    mismatches += [Mismatch(name, "unlisted", "", sha256_of(result / name)) for name in unlisted]
    for material in statement.materials:
        place: Path | str = "looked up only with a valid signature"
        if is_signed or material.uri.startswith(f"{RUN}:"):
            place = find_material(material.uri, run=run, base=base, name=material.name)
        _look_at(material, place, run, same, mismatches, absent)
    if run is not None:
        mismatches += _facts(statement, run, same)
    return Verification(
        result=result,
        statement=statement,
        signer=signer.name,
        is_signed=is_signed,
        same=tuple(same),
        mismatches=tuple(mismatches),
        absent=absent,
    )


def _look_at(
    material: Material,
    place: Path | str,
    run: Path | None,
    same: list[str],
    mismatches: list[Mismatch],
    absent: dict[str, str],
) -> None:
    """Hash one listed file. A file that a run folder lacks is a mismatch, other ones may be on another machine."""
    if isinstance(place, Path) and place.is_file():
        try:
            found = sha256_of(place)
        except OSError as error:
            found = f"cannot be read: {error.strerror or error}"
        _compare(material.name, material.sha256, found, same, mismatches)
    elif run is not None and material.uri.startswith(f"{RUN}:"):
        mismatches.append(Mismatch(material.name, "missing", material.sha256, ""))
    else:
        absent[material.name] = str(place)


def _compare(name: str, certified: str, found: str, same: list[str], mismatches: list[Mismatch]) -> None:
    if certified == found:
        same.append(name)
    else:
        mismatches.append(Mismatch(name, "changed", certified, found))


def _facts(statement: Statement, run: Path, same: list[str]) -> Iterator[Mismatch]:
    """Yield the stated values that differ from those of the run folder."""
    try:
        here = json.loads(json.dumps(facts_of(run)))
    except UsageError as error:
        yield Mismatch("the run's values", "changed", "", "; ".join(error.problems))
        return
    for name in sorted({*here, *statement.facts}):
        certified, found = statement.facts.get(name), here.get(name)
        if certified == found:
            same.append(name)
        else:
            yield Mismatch(name, "changed", *map(_short, _difference(certified, found)))


def _difference(certified: Any, found: Any) -> tuple[Any, Any]:
    """Return the parts of two objects that differ."""
    if not (isinstance(certified, dict) and isinstance(found, dict)):
        return certified, found
    keys = [key for key in {**certified, **found} if certified.get(key) != found.get(key)]
    return {key: certified.get(key) for key in keys}, {key: found.get(key) for key in keys}


def _short(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."
