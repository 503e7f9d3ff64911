"""The built-in tools `files`: text files of one episode, which exist in memory only.

No path leads to the disk, so no file of the machine can be read, and nothing is left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from rft.config.fields import Positive
from rft.episodes.tools.built_in.base import BuiltIn, Call, Described
from rft.episodes.tools.tool import ToolError
from rft.types import Task

MAX_PATH_CHARACTERS = 200
"""Longest path."""


class FilesTool(BuiltIn):
    """The options of `files`."""

    column: str | None = None
    """The task's column with the files that an episode begins with, a mapping from paths to texts; null for none."""
    max_files: Positive = 50
    """Number of files."""
    max_bytes: Positive = 1 << 20
    """Size of all files together."""

    def described(self, name: str) -> Described:
        """Return four tools, whose names do not depend on the entry."""
        path = {"path": "The path, such as notes/plan.txt."}
        return {
            "list_files": ("List all files with their sizes.", {}),
            "read_file": ("Return the text of a file.", path),
            "write_file": ("Write a text file, in place of an older one.", {**path, "text": "The text."}),
            "delete_file": ("Delete a file.", path),
        }

    def calls(self, name: str, task: Task) -> Mapping[str, Call]:
        """Return the calls, which share a workspace.

        Raises:
            ValueError: The task's files exceed the limits, or are none.
        """
        files = Workspace(self.max_files, self.max_bytes)
        if self.column is not None and (given := task.item.get(self.column)) is not None:
            files.fill(given, self.column, task.id)

        def call(method: Callable[..., str]) -> Call:
            async def called(arguments: Mapping[str, Any]) -> str:
                return method(**arguments)

            return called

        return {
            "list_files": call(files.list),
            "read_file": call(files.read),
            "write_file": call(files.write),
            "delete_file": call(files.delete),
        }


@dataclass
class Workspace:
    """The files of one episode.

    Args:
        max_files: Number of files.
        max_bytes: Size of all files together, as UTF-8.
    """

    max_files: int
    max_bytes: int
    _files: dict[str, str] = field(default_factory=dict, init=False)

    def fill(self, files: Any, column: str, task_id: str) -> None:
        """Write the files that a task begins with: a mapping from paths to texts.

        Raises:
            ValueError: It is no such mapping, or exceeds the limits.
        """
        if not isinstance(files, Mapping) or not all(isinstance(text, str) for text in files.values()):
            raise ValueError(f"column '{column}' of task {task_id} is no mapping from paths to texts")
        try:
            for path, text in files.items():
                self.write(path, text)
        except ToolError as error:
            raise ValueError(f"column '{column}' of task {task_id}: {error}") from None

    def list(self) -> str:
        """Return a line for each file: its path, and its size in bytes."""
        return "\n".join(f"{path} ({_size(text)} bytes)" for path, text in sorted(self._files.items())) or "(no files)"

    def read(self, path: str) -> str:
        """Return the text of a file.

        Raises:
            ToolError: There is no such file.
        """
        return self._files[self._present(path)]

    def write(self, path: str, text: str) -> str:
        """Write a file, in place of one with the same path.

        Raises:
            ToolError: The path is wrong, or a limit is reached.
        """
        name = _clean(path)
        if name not in self._files and len(self._files) >= self.max_files:
            raise ToolError(f"there are {self.max_files} files already; no more are allowed")
        others = sum(_size(other) for key, other in self._files.items() if key != name)
        if others + _size(text) > self.max_bytes:
            raise ToolError(f"all files together may have {self.max_bytes} bytes; {self.max_bytes - others} are left")
        folders = {str(parent) for parent in PurePosixPath(name).parents}
        if clash := sorted(key for key in self._files if key in folders or key.startswith(f"{name}/")):
            raise ToolError(f"{clash[0]} exists, so {name} cannot be a file")
        self._files[name] = text
        return f"wrote {_size(text)} bytes to {name}"

    def delete(self, path: str) -> str:
        """Delete a file.

        Raises:
            ToolError: There is no such file.
        """
        name = self._present(path)
        del self._files[name]
        return f"deleted {name}"

    def _present(self, path: str) -> str:
        name = _clean(path)
        if name not in self._files:
            raise ToolError(f"there is no file {name}; the files are:\n{self.list()}")
        return name


def _clean(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or len(path) > MAX_PATH_CHARACTERS or not path.isprintable():
        raise ToolError(f"{path[:MAX_PATH_CHARACTERS]!r} is no path; write one such as notes/plan.txt")
    return str(PurePosixPath(*parts))


def _size(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))
