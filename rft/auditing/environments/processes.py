"""What the processes of an environment hold, from /proc: open files, sockets, and processes that they have started."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
MAX_FILES = 50
MAX_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Held:
    """What processes hold.

    Example:
        Held(files=3, sockets=1, processes=0, tasks=0)
    """

    files: int
    """Open files, pipes and devices."""
    sockets: int
    """Open sockets."""
    processes: int
    """Processes that they have started."""
    tasks: int
    """Episodes and tasks that outlive their episode."""

    def more_than(self, before: Held) -> dict[str, int]:
        """Return what has grown, by name."""
        names = ("files", "sockets", "processes", "tasks")
        grown = {name: getattr(self, name) - getattr(before, name) for name in names}
        return {name: number for name, number in grown.items() if number > 0}


def held(pids: list[int], tasks: int) -> Held:
    """Return what these processes hold, without their descendants' files."""
    links = [link for pid in pids for link in _links(pid)]
    sockets = sum(link.startswith("socket:") for link in links)
    processes = sum(1 for pid in pids for _ in descendants(pid))
    return Held(len(links) - sockets, sockets, processes, tasks)


def descendants(pid: int) -> Iterator[int]:
    """Yield the processes that a process has started, and those that they have started."""
    with suppress(OSError):
        for thread in (PROC / str(pid) / "task").iterdir():
            for child in (thread / "children").read_text().split():
                yield int(child)
                yield from descendants(int(child))


def readable(pid: int) -> str:
    """Return what a program in a process can read without effort: its arguments, environment, and nearby files."""
    folder = PROC / str(pid)
    parts = []
    for name in ("cmdline", "environ"):
        with suppress(OSError):
            parts.append((folder / name).read_bytes().decode(errors="replace").replace("\0", "\n"))
    with suppress(OSError):
        here = (folder / "cwd").resolve()
        if here != Path.cwd():
            parts += [_start(file) for file in sorted(here.iterdir())[:MAX_FILES] if file.is_file()]
    return "\n".join(parts)


def _start(file: Path) -> str:
    with suppress(OSError), file.open("rb") as opened:
        return opened.read(MAX_BYTES).decode(errors="replace")
    return ""


def _links(pid: int) -> Iterator[str]:
    with suppress(OSError):
        for descriptor in (PROC / str(pid) / "fd").iterdir():
            with suppress(OSError):
                yield str(descriptor.readlink())
