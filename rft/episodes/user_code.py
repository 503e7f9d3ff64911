"""The user's files that environments and tools need on another node: their code, and what they read."""

from __future__ import annotations

import hashlib
import os
import shlex
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rft.config.environment import EnvironmentConfig
from rft.config.tools import ToolConfig
from rft.errors import EpisodeError, UsageError
from rft.grading.loading.targets import imported_modules
from rft.retrieval.index_folder import read_manifest

MAX_BYTES = 256 << 20
"""Largest sum of all files."""
SEARCHED = ("index", "documents")
"""Keys of a tool, and of its local store, whose values may be files of the user's."""


@dataclass(frozen=True, slots=True)
class UserCode:
    """Files, and the working directory among them.

    Example:
        UserCode(files={"project/my_env.py": b"async def guess(task, policy): ..."}, working_folder="project")
    """

    files: Mapping[str, bytes]
    """Contents by path, relative to a folder that holds them all."""
    working_folder: str
    """The working directory of the driver, relative to the same folder."""

    @property
    def sha256(self) -> str:
        """SHA-256 of all names and contents."""
        hashed = hashlib.sha256(self.working_folder.encode())
        for name, content in sorted(self.files.items()):
            hashed.update(f"\0{name}\0{len(content)}\0".encode() + content)
        return hashed.hexdigest()

    def write(self, folder: Path) -> Path:
        """Write the files, and return the working directory for processes that use them.

        Equal code has the same place, so a file is replaced as a whole: another run may read it at this moment.

        Args:
            folder: Absolute folder for all files of rft on this node.

        Raises:
            EpisodeError: The folder belongs to another user.
        """
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if folder.stat().st_uid != os.getuid():
            raise EpisodeError(f"{folder} belongs to another user; set cluster.node_folder to your own folder")
        top = folder / "code" / self.sha256
        for name, content in self.files.items():
            file = top / name
            file.parent.mkdir(parents=True, exist_ok=True)
            aside = file.with_name(f".{uuid.uuid4().hex}")
            aside.write_bytes(content)
            aside.replace(file)
        (top / self.working_folder).mkdir(parents=True, exist_ok=True)
        return top / self.working_folder


def on_node(first: Mapping[str, Any]) -> dict[str, Any]:
    """Return the first line of a process for a node: the user's files are relative to its working directory."""
    tools = {name: {**entry, **_relative(entry)} for name, entry in first["tools"].items()}
    return {**first, **_relative(first), "tools": tools}


def _relative(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the places among the values of a tool or an environment, relative to the working directory."""
    here = Path.cwd().resolve()
    places: dict[str, Any] = {}
    if (file := _file_of(entry["use"])) is not None:
        places["use"] = f"{os.path.relpath(file, here)}:{entry['use'].rpartition(':')[2]}"
    places |= _relative_searched(entry, here)
    store = dict(entry.get("store") or {})
    if _is_local(store):
        store |= _relative_searched(store, here)
    if (model := _searched(_model_of(store))) is not None:
        store["embedder"] = {**store["embedder"], "path": os.path.relpath(model, here)}
    return places | ({"store": store} if store else {})


def _relative_searched(entry: Mapping[str, Any], here: Path) -> dict[str, str]:
    found = {key: _searched(entry.get(key)) for key in SEARCHED}
    return {key: os.path.relpath(path, here) for key, path in found.items() if path is not None}


def _model_of(settings: Mapping[str, Any]) -> str | None:
    """Return the folder of the sentence model that embeds queries, from the settings of a store or from an index."""
    embedder = settings.get("embedder")
    return embedder.get("path") if isinstance(embedder, Mapping) else None


def _model_of_index(place: str | None) -> str | None:
    """Return the folder of the sentence model that an index remembers; None for an absolute path, which stays as it is.

    Raises:
        UsageError: There is no index.
    """
    folder = _searched(place)
    if folder is None:
        return None
    try:
        path = _model_of(read_manifest(folder))
    except ValueError as error:
        raise UsageError("environment.placement=samplers", [str(error)]) from error
    return None if path is None or Path(path).expanduser().is_absolute() else path


def _is_local(store: Mapping[str, Any]) -> bool:
    return store.get("kind") == "local"


def variables_of(tools: Mapping[str, ToolConfig]) -> dict[str, str]:
    """Return the environment variables that tools name, such as those with the key of a store, and that are set."""
    names = []
    for tool in tools.values():
        names += [*tool.env, tool.bearer_env]
        if tool.store is not None:
            names += [value for key, value in tool.searched() if key.endswith("_env")]
    return {name: os.environ[name] for name in names if name is not None and name in os.environ}


def user_code(environment: EnvironmentConfig, tools: Mapping[str, ToolConfig]) -> UserCode:
    """Read the files of an environment and of tools.

    These are their own files, the modules beside them that they import, the files that the commands of MCP servers
    name, what tools search, the sentence models that embed their queries, and `environment.files`.

    Args:
        environment: The environment.
        tools: The tools.

    Raises:
        UsageError: The files are too large, or cannot be read.
    """
    here = Path.cwd().resolve()
    found: dict[Path, None] = {}
    for use in (environment.use, *(tool.use for tool in tools.values())):
        if (file := _file_of(use)) is not None:
            _add_module(file, found)
    for word in (word for tool in tools.values() for word in shlex.split(tool.mcp or "")):
        if os.path.isfile(word) and not os.path.isabs(word):
            found[Path(word).resolve()] = None
    entries = [tool.model_dump() for tool in tools.values()]
    entries += [entry["store"] for entry in entries if _is_local(entry["store"] or {})]
    places = [entry.get(key) for entry in entries for key in SEARCHED]
    places += [_model_of(entry["store"] or {}) for entry in entries if "store" in entry]
    places += [_model_of_index(entry.get("index")) for entry in entries]
    searched = (_searched(place) for place in places)
    given = (Path(place).expanduser().resolve() for place in environment.files)
    for path in filter(None, (*searched, *given)):
        found.update(dict.fromkeys(_files_below(path)))
    if (size := sum(file.stat().st_size for file in found)) > MAX_BYTES:
        problem = f"the files for other nodes have {size >> 20} MiB, and may have {MAX_BYTES >> 20}; name fewer, "
        raise UsageError("environment.placement=samplers", [f"{problem}or leave the placement out"])
    top = Path(os.path.commonpath([here, *(file.parent for file in found)]))
    try:
        files = {file.relative_to(top).as_posix(): file.read_bytes() for file in found}
    except OSError as error:
        raise UsageError("environment.placement=samplers", [f"{error.filename}: {error.strerror}"]) from error
    return UserCode(files, here.relative_to(top).as_posix())


def _file_of(use: str | None) -> Path | None:
    """Return the user's file that a `use` names; None for what ships with rft."""
    path = (use or "").rpartition(":")[0]
    return Path(path).expanduser().resolve() if path.endswith(".py") else None


def _searched(place: str | None) -> Path | None:
    """Return an index or documents of the user's that a tool searches; None for what is no file of theirs."""
    path = Path(place or "").expanduser()
    return path.resolve() if place is not None and path.exists() else None


def _add_module(file: Path, found: dict[Path, None]) -> None:
    """Add a Python file, and the files beside it that it imports.

    A file in a package comes with the whole package, because an import of the package runs its `__init__.py`.
    """
    if file in found or not file.is_file():
        return
    found[file] = None
    beside = file.parent
    if (beside / "__init__.py").is_file():
        while (beside.parent / "__init__.py").is_file():
            beside = beside.parent
        for other in _files_below(beside, suffix=".py"):
            _add_module(other, found)
        beside = beside.parent
    for name in imported_modules(file):
        first = name.lstrip(".").partition(".")[0]
        if (module := beside / f"{first}.py").is_file():
            _add_module(module, found)
        elif first and (package := beside / first).is_dir():
            for other in _files_below(package, suffix=".py"):
                _add_module(other, found)


def _files_below(path: Path, suffix: str = "") -> Iterator[Path]:
    """Yield a file itself, or the files below a folder without those of Python's cache."""
    if path.is_file():
        yield path
        return
    for file in sorted(path.rglob(f"*{suffix}")):
        if file.is_file() and "__pycache__" not in file.parts:
            yield file
