"""The statement of a certificate: what a run made, from what, and how well (in-toto Statement v1).

subject              the files of the adapter, or of the whole model
predicate.facts      values of the run: base model, tasks, graders, comparison, forgetting, proofs, versions
predicate.materials  files that the run read, and its own
predicate.checked    what was computed again before the signature
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rft import __version__
from rft.config.recorded_yaml import read_yaml
from rft.evidence.certificate.envelope import BUNDLE, CERTIFICATE, canonical, refusal
from rft.evidence.certificate.materials import FEASIBILITY, Material, is_inside, sha256_of, sources_of
from rft.metrics.families import of_family
from rft.metrics.held_out import graders_of, metric_bounds
from rft.run_folder.recorded_scores import recorded_by_task
from rft.run_folder.recorder import CONFIG, MANIFEST, SUMMARY, read_manifest, read_rollouts
from rft.run_folder.results import RESULTS, summary_of
from rft.run_folder.retention_file import guard_verdicts

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:rft:certificate:v1"
MAX_FILES = 10_000
"""Most files that a certificate may list."""
BESIDE = (CERTIFICATE, BUNDLE, ".gitattributes")
"""Files of a result folder that no certificate lists: certificates, and what the hub adds."""
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What a certificate says.

    Example:
        Statement(subject={"adapter_model.safetensors": "9b2e51c0..."}, materials=(...), facts={...},
                  checked=("graders",))
    """

    subject: Mapping[str, str]
    """SHA-256 of each file of the result, by its path there."""
    materials: tuple[Material, ...]
    """The other files."""
    facts: Mapping[str, Any]
    """Result of `facts_of`."""
    checked: tuple[str, ...]
    """What was computed again before the signature."""

    def to_payload(self) -> bytes:
        """Return the bytes to sign."""
        return canonical(
            {
                "_type": STATEMENT_TYPE,
                "subject": [{"name": name, "digest": {"sha256": own}} for name, own in self.subject.items()],
                "predicateType": PREDICATE_TYPE,
                "predicate": {
                    "facts": self.facts,
                    "materials": [material.to_json() for material in self.materials],
                    "checked": list(self.checked),
                    "rft": __version__,
                },
            }
        )


def read_statement(payload: bytes, file: Path) -> Statement:
    """Read the payload of a certificate, which may come from a stranger.

    Args:
        payload: The payload.
        file: The certificate, for messages.

    Raises:
        UsageError: It is no statement of rft, lists too much, or names a file outside of the adapter's folder.
    """
    try:
        values = json.loads(payload)
        kinds = values["_type"], values["predicateType"]
        if kinds != (STATEMENT_TYPE, PREDICATE_TYPE):
            raise ValueError(f"its types are {kinds}")
        predicate = values["predicate"]
        subject = [(str(each["name"]), str(each["digest"]["sha256"])) for each in values["subject"]]
        materials = tuple(
            Material(str(each["name"]), str(each["uri"]), str(each["digest"]["sha256"]))
            for each in predicate["materials"]
        )
        facts, checked = dict(predicate["facts"]), tuple(map(str, predicate["checked"]))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise refusal(f"{file} holds no statement of rft certify: {type(error).__name__}: {error}") from error
    names = [name for name, _ in subject] + [material.name for material in materials]
    if len(names) > MAX_FILES:
        raise refusal(f"{file} lists {len(names):,} files; allowed are {MAX_FILES:,}")
    if odd := [text for text in [*names, *(one.uri for one in materials)] if not text.isprintable()]:
        raise refusal(f"{file} lists a name with control characters: {odd[0]!r:.200}")
    if outside := [name for name, _ in subject if not is_inside(name)]:
        raise refusal(f"{file} lists {outside[0]!r:.200}, which leaves the adapter's folder")
    if broken := [own for own in [*dict(subject).values(), *(one.sha256 for one in materials)] if not _is_hash(own)]:
        raise refusal(f"{file} lists {broken[0]!r:.80}, which is no SHA-256")
    if not subject or len(set(names)) < len(names):
        raise refusal(f"{file} lists {'one name twice' if subject else 'no file of an adapter'}")
    return Statement(subject=dict(subject), materials=materials, facts=facts, checked=checked)


def result_of(path: Path) -> Path:
    """Return the folder of a result: `adapter` or `model` of a run, or the folder itself.

    Raises:
        UsageError: There is none.
    """
    for folder in (*(path / name for name in RESULTS), path):
        if folder.is_dir() and any(folder.glob("*.safetensors")):
            return folder
    raise refusal(f"{path} holds neither an adapter nor a model; name a finished run, or the folder of its adapter")


def run_of(result: Path) -> Path | None:
    """Return the run folder of a result; None if the result stands alone."""
    run = result.absolute().parent
    return run if result.name in RESULTS and (run / MANIFEST).is_file() and (run / CONFIG).is_file() else None


def subject_of(result: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a result, by its path there."""
    return {name: sha256_of(result / name) for name in files_of(result)}


def files_of(result: Path) -> list[str]:
    """Return the files of a result that a certificate lists, sorted; hidden folders hold caches of downloads."""
    names = [path.relative_to(result) for path in result.rglob("*") if path.is_file()]
    return sorted(
        name.as_posix()
        for name in names
        if name.as_posix() not in BESIDE and not any(part.startswith(".") for part in name.parts[:-1])
    )


def read_config(run: Path) -> dict[str, Any]:
    """Return the configuration of a run; its secrets are hidden.

    Raises:
        UsageError: It cannot be read.
    """
    try:
        config = read_yaml(run / CONFIG, what="certificate")
        return {"data": config["data"], **config}
    except (KeyError, TypeError) as error:
        raise refusal(f"{run / CONFIG} cannot be read: {' '.join(str(error).split())}") from error


def facts_of(run: Path) -> dict[str, Any]:
    """Return the values of a run that a certificate states, computed from its folder.

    Comparison and forgetting are computed from rollouts.jsonl again, not copied from summary.json.

    Raises:
        UsageError: A file is damaged or missing.
    """
    config = read_config(run)
    try:
        manifest = read_manifest(run)
        summary = json.loads((run / SUMMARY).read_text(encoding="ascii"))
        feasibility = run / FEASIBILITY
        return {
            "run": {key: manifest[key] for key in ("method", "started_at", "command")}
            | {"status": summary["status"], "steps": summary["steps"]},
            "base_model": manifest["base_model"],
            "start": manifest.get("start"),
            "teachers": manifest.get("teachers") or manifest.get("teacher"),
            "data": manifest["tasks"],
            "sources": sources_of(config),
            "graders": {name: own | _configured(config, name) for name, own in manifest["graders"].items()},
            "environment": manifest.get("environment"),
            "audit": manifest.get("audit"),
            "feasibility": json.loads(feasibility.read_text(encoding="utf-8")) if feasibility.is_file() else None,
            "comparison": _compared(run, config, summary)["eval"],
            "forgetting": _forgotten(run, config, summary),
            "syncs": {"all": summary["syncs"], "proved": summary["syncs_proved"]},
            "seed": manifest["seed"],
            "versions": {"rft": manifest["rft"], "python": manifest["python"], **manifest["libraries"]},
            "platform": manifest["platform"],
            "git": manifest["git"],
        }
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        problem = f"{run} has no whole results ({type(error).__name__}: {error}); finish the run, or copy it again"
        raise refusal(problem) from error


def _configured(config: Mapping[str, Any], name: str) -> dict[str, str]:
    """Return the hash of a grader's entry in the configuration, whose secrets are hidden."""
    entry = (config.get("graders") or {}).get(name)
    return {"configuration_sha256": hashlib.sha256(canonical({"entry": entry})).hexdigest()}


def _compared(run: Path, config: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, Any]:
    """Compute the comparison before and after training from the recorded rollouts."""
    mixture = config["data"].get("mixture") or {}
    return summary_of(
        run,
        graders=config.get("graders") or {},
        families={name: family["graders"] for name, family in mixture.items()},
        evaluation=config["evaluation"],
        status=summary["status"],
        split=summary["eval"]["split"],
        wall_s=summary["wall_s"],
    )


def _forgotten(run: Path, config: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, Any]:
    """Compute the verdicts of `evaluation.guard` from the recorded rollouts; add what the run could not measure."""
    limits = config["evaluation"].get("guard") or {}
    left_out = (summary.get("retention") or {}).get("left_out", ())
    return {
        "limits": limits,
        "families": _verdicts(run, config, limits) if limits else {},
        "left_out": [line for line in left_out if line.startswith("guard of ")],
    }


def _verdicts(run: Path, config: Mapping[str, Any], limits: Mapping[str, float]) -> dict[str, Any]:
    metric, mixture = config["evaluation"]["metric"], config["data"]["mixture"]
    before, after = (recorded_by_task(read_rollouts(run, phase), metric) for phase in ("before", "after"))
    return guard_verdicts(
        {name: of_family(before, name) for name in limits},
        {name: of_family(after, name) for name in limits},
        max_drops=limits,
        bounds={
            name: metric_bounds(graders_of(config["graders"], mixture[name]["graders"]), metric) for name in limits
        },
    )


def _is_hash(text: str) -> bool:
    return _SHA256.fullmatch(text) is not None
