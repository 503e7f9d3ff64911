"""The files that a certificate lists beside the adapter: those of the run, base model, tasks and code.

    run:metrics.jsonl                            in the run folder
    python:rft/embedded/model/config.json        in an installed package, `rft` or `graders`, wherever it lies
    file:///home/ada/tasks.jsonl                 anywhere on the machine that signed

A receiver looks a `file:` up only after the signature of a trusted key, and hashes regular files alone.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from rft.data.hygiene.data_folder import CARD, card_of
from rft.data.sources import local_file
from rft.errors import UsageError
from rft.grading.loading.targets import BUILT_IN
from rft.models.base_model import content_files, fingerprint
from rft.run_folder.recorder import CONFIG, LOSSES, MANIFEST, METRICS, SUMMARY
from rft.run_folder.retention_file import RETENTION
from rft.run_folder.rollout_files import rollout_paths
from rft.waiting import waiting

RUN, PYTHON, FILE = "run", "python", "file"
PACKAGES = ("rft", "graders")
"""Installed packages whose files a certificate may name by the package."""
FEASIBILITY = "feasibility.json"
RUN_FILES = (CONFIG, MANIFEST, METRICS, SUMMARY, LOSSES, RETENTION, FEASIBILITY, "shots.json", "passages.jsonl")
"""Files of a run that a certificate lists, if they exist, beside its rollouts."""


@dataclass(frozen=True, slots=True)
class Material:
    """A file that a certificate lists.

    Example:
        Material("data/test/tasks.jsonl", "file:///home/ada/tasks.jsonl", "9b2e51c0...")
    """

    name: str
    """What the file is, unique in the certificate."""
    uri: str
    """Where to look for it."""
    sha256: str
    """Hexadecimal SHA-256 of its content."""

    def to_json(self) -> dict[str, Any]:
        """Return a ResourceDescriptor of in-toto."""
        return {"name": self.name, "uri": self.uri, "digest": {"sha256": self.sha256}}


def sha256_of(file: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    with waiting(f"the hash of {file}"), file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def materials_of(
    run: Path, config: Mapping[str, Any], manifest: Mapping[str, Any], *, base: Path, problems: list[str]
) -> list[Material]:
    """Return the files that a run depends on, and its own.

    Args:
        run: The run folder.
        config: Its configuration.
        manifest: Its manifest.
        base: Folder of the base model.
        problems: Receives what is missing, or has changed since the run.
    """
    found = [_material(f"run/{file.name}", file, run) for file in _run_files(run)]
    found += [_material(f"base_model/{file.name}", file, run) for file in content_files(base)]
    if (now := fingerprint(base)) != (then := manifest["base_model"]["fingerprint"]):
        problems.append(f"base model: {base} has the fingerprint {now}, and the run trained on {then}; restore it")
    for name, source in sources_of(config).items():
        try:
            file = local_file(source, key=f"data.{name}")
        except UsageError as error:
            problems += error.problems
            continue
        if file is not None:
            found.append(_material(f"data/{name}/{file.name}", file, run))
            if card_of(file) is not None:
                found.append(_material(f"data/{name}/{CARD}", file.parent / CARD, run))
    return found + _code(run, config, manifest, problems)


def sources_of(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the sources of tasks, by split, or by family and split."""
    data = config["data"]
    families = {f"{family}/": values for family, values in (data.get("mixture") or {}).items()}
    return {
        f"{prefix}{split}": values[key]
        for prefix, values in {"": data, **families}.items()
        for split, key in (("train", "source" if prefix else "train"), ("validation", "validation"), ("test", "test"))
        if values.get(key)
    }


def _run_files(run: Path) -> list[Path]:
    return [*(run / name for name in RUN_FILES if (run / name).is_file()), *rollout_paths(run)]


def _code(run: Path, config: Mapping[str, Any], manifest: Mapping[str, Any], problems: list[str]) -> list[Material]:
    """Return the files of graders, environment and advantages. Their hashes are those of the run."""
    code = {f"graders/{name}": (own["source"], own["sha256"]) for name, own in manifest["graders"].items()}
    for name, key in (("environment", "use"), ("advantage", "source")):
        if own := manifest.get(name):
            code[name] = (own[key], own["sha256"])
    for name, use in _parts(config.get("graders") or {}):
        code[name] = (use, None)
    found = []
    for name, (use, then) in code.items():
        file = code_file(use)
        if file is None:
            continue  # code that is no file of its own, such as a grader in OpenAI's format; its hash is a fact
        if not file.is_file():
            problems.append(f"{name}: its code {file} is missing; certify where the run was started")
            continue
        material = _material(name, file, run)
        if then not in (None, material.sha256):
            hashes = f"{then} then, {material.sha256} now"
            problems.append(f"{name}: {file} has changed since the run ({hashes}); restore it")
        found.append(material)
    return found


def _parts(graders: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield name and code of the graders inside composites, which manifest.json does not list."""
    for name, entry in graders.items():
        inner = {**(entry.get("of") or {}), **({"gate": entry["gate"]} if entry.get("gate") else {})}
        for part, own in inner.items():
            if isinstance(own, dict) and isinstance(own.get("use"), str):
                yield f"graders/{name}/{part}", own["use"]


def code_file(use: str) -> Path | None:
    """Return the file of a function as a configuration names it, without importing it; None if it has none."""
    path, _, name = BUILT_IN.get(use, use).rpartition(":")
    if path.endswith(".py") or name.endswith(".py"):
        return Path(path if path.endswith(".py") else use).expanduser()
    try:
        spec = importlib.util.find_spec(path) if path else None
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec is not None and spec.origin else None


def _material(name: str, file: Path, run: Path) -> Material:
    return Material(name, _uri(file.absolute(), run.absolute()), sha256_of(file))


def _uri(file: Path, run: Path) -> str:
    if file.is_relative_to(run):
        return f"{RUN}:{file.relative_to(run).as_posix()}"
    for package in PACKAGES:
        if (top := _folder_of(package)) is not None and file.is_relative_to(top):
            return f"{PYTHON}:{package}/{file.relative_to(top).as_posix()}"
    return file.as_uri()


def _folder_of(package: str) -> Path | None:
    """Return the folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def is_inside(name: str) -> bool:
    """Whether a relative path stays in its folder."""
    path = PurePosixPath(name)
    return bool(name) and "\0" not in name and "\\" not in name and not path.is_absolute() and ".." not in path.parts


def find_material(uri: str, *, run: Path | None, base: Path | None, name: str) -> Path | str:
    """Return where a listed file lies here, or why it cannot be looked up. It need not exist.

    Args:
        uri: The place in the certificate, which a trusted key has signed.
        run: The run folder; None without one.
        base: A folder in place of the recorded one for files of the base model.
        name: Name of the material.
    """
    kind, _, rest = uri.partition(":")
    if name.startswith("base_model/") and base is not None:
        return base / PurePosixPath(name).name
    if kind == FILE:
        path = unquote(urlsplit(uri).path)
        return "no place on this machine" if urlsplit(uri).netloc or "\0" in path else Path(path)
    if kind not in (RUN, PYTHON):
        return f"{kind}: is no place that rft knows"
    if not is_inside(rest):
        return "its path leaves the folder"
    if kind == RUN:
        return "the run folder is not here" if run is None else run / rest
    package, _, inner = rest.partition("/")
    top = _folder_of(package) if package in PACKAGES else None
    return f"{package} is no package that rft knows" if top is None else top / inner
