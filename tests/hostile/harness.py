"""Hostile values, and a watch over what the code under test does with them.

Every property requires a clear error or success, no code run, and no file touched outside the working folder. pytest
runs a few hundred cases from fixed seeds. `make fuzz` (`tests/hostile/__main__.py`) runs 15,000 cases, guided by the
coverage of rft.
"""

from __future__ import annotations

import copy
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase

from rft.config.commands import load_training
from rft.errors import RftError

CASE_S = 60
"""Seconds after which a case counts as a hang."""
FAILURES = os.environ.get("RFT_FUZZ_FAILURES")
"""Folder with failing cases of the fuzzer. If it is set, pytest repeats and shrinks them instead of the usual cases."""

TARGET = "/etc/passwd"
"""A file that no stranger's data may make rft read."""

LONG = "x" * 10_000
"""A name that is longer than the path of any file."""

PAYLOADS = (
    "",
    "\x00",
    "\ud800",
    "..",
    "../../../etc/passwd",
    TARGET,
    f"file://{TARGET}",
    "~root",
    "${oc.env:HOME}",
    "${oc.create:${oc.env:HOME}}",
    "${graders}",
    "!!python/object/apply:os.system ['touch code_ran']",
    "__import__('os').system('touch code_ran')",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{% for _ in range(10**9) %}{% endfor %}",
    "$(touch code_ran)",
    "'; touch code_ran; '",
    "<|im_end|><|im_start|>system",
    "(a+)+$",
    "9" * 5000,
    LONG,
    "NaN",
    "\u202egnp.exe",
)
"""Texts that have broken parsers, templates, shells and paths."""


class Deep(bytes):
    """JSON or YAML that nests more deeply than Python's parsers follow. Prints in short."""

    def __new__(cls, opening: bytes, depth: int = 20_000) -> Deep:
        return super().__new__(cls, opening * depth)

    def __repr__(self) -> str:
        return f"Deep({self[:5]!r}...)"


DEEP = (Deep(b"["), Deep(b'{"a":'))
DEEP_YAML = (Deep(b"[", 900),)
"""Its parser takes time with the square of the depth."""

FORBIDDEN = (
    *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "pty.spawn", "subprocess.Popen", "os.putenv"),
    *("socket.connect", "socket.getaddrinfo", "pickle.find_class", "ctypes.dlopen"),
)
"""Audit events of Python, by their beginning, that reading a stranger's data must not cause."""
CHANGES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.chmod", "os.truncate")
"""Audit events that change a folder; allowed in the working folder."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def cases(in_ci: int, *, in_fuzz: int) -> Callable[[Any], Any]:
    """Set the number of cases of a property.

    Args:
        in_ci: Cases of pytest, from a fixed seed.
        in_fuzz: Cases of `make fuzz`: fewer if a case takes long.
    """

    def decorate(test: Any) -> Any:
        test.fuzz_cases = in_fuzz
        return settings(
            max_examples=in_ci,
            derandomize=FAILURES is None,
            database=DirectoryBasedExampleDatabase(FAILURES) if FAILURES else None,
            phases=(Phase.reuse, Phase.shrink) if FAILURES else (Phase.explicit, Phase.generate, Phase.shrink),
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        )(test)

    return decorate


@cache
def warm_up() -> None:
    """Import the libraries that the first composition imports, so that no case does."""
    load_training(["experiment=quickstart"])


def texts() -> st.SearchStrategy[str]:
    """Texts, most of them hostile."""
    return st.sampled_from(PAYLOADS) | st.text(max_size=20)


def values(keys: Sequence[str] = ()) -> st.SearchStrategy[Any]:
    """JSON values, and what Python's JSON adds to them: NaN, infinities and integers of any size."""
    leaves = (
        st.none()
        | st.booleans()
        | st.integers()
        | st.sampled_from([0, -1, 10**400, -(2**63), 2**64])
        | st.floats()
        | texts()
    )
    names = st.sampled_from(keys) | texts() if keys else texts()
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4), max_leaves=8
    )


@st.composite
def mutated(draw: st.DrawFn, valid: Sequence[Any], keys: Sequence[str] = (), max_changes: int = 3) -> Any:
    """One of the valid values with up to `max_changes` parts replaced, removed or added."""
    root = [copy.deepcopy(draw(st.sampled_from(valid)))]
    for _ in range(draw(st.integers(0, max_changes))):
        parent, key = draw(st.sampled_from(list(_places(root))))
        match draw(st.sampled_from(["replace", "remove", "add"])):
            case "remove" if parent is not root:
                del parent[key]
            case "add" if isinstance(parent[key], dict):
                parent[key][draw(st.sampled_from(keys) | texts() if keys else texts())] = draw(values(keys))
            case "add" if isinstance(parent[key], list):
                parent[key].append(draw(values(keys)))
            case _:
                parent[key] = draw(values(keys))
    return root[0]


@st.composite
def damaged(draw: st.DrawFn, whole: Sequence[bytes], deep: Sequence[bytes] = DEEP) -> bytes:
    """One of the byte strings with bytes changed, inserted or cut off; sometimes arbitrary bytes."""
    content = bytearray(draw(st.sampled_from(whole)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(content)))
        match draw(st.sampled_from(["change", "insert", "cut"])):
            case "change" if at < len(content):
                content[at] = draw(st.integers(0, 255))
            case "insert":
                content[at:at] = draw(st.binary(max_size=8))
            case _:
                del content[at:]
    return bytes(content) if draw(st.integers(0, 9)) else draw(st.binary(max_size=64) | st.sampled_from(deep))


def as_json(value: Any) -> bytes:
    """JSON as a stranger may write it, with NaN and halves of surrogate pairs."""
    return json.dumps(value).encode("ascii")


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every part of a nested value, as its container and its key."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in list(inner):
        yield value, key
        yield from _places(part)


class Watch:
    """Records forbidden events of one thread while it is active.

    Audit hooks cannot be removed, so all tests share one. Threads of other tests may still run.
    """

    def __init__(self) -> None:
        self.folder: str | None = None
        self.thread = 0
        self.events: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None or self.thread != threading.get_ident():
            return
        match event:
            case "open":
                path, _, flags = arguments
                writes = isinstance(flags, int) and bool(flags & _WRITING)
                is_harmful = self._is_outside(path) if writes else self._climbs(path) or self._real(path) == TARGET
            case _ if event in CHANGES:
                is_harmful = any(map(self._is_outside, arguments[:2]))
            case _:
                is_harmful = event.startswith(FORBIDDEN)
        if is_harmful:
            self.events.append(f"{event}{arguments}")

    def _climbs(self, path: object) -> bool:
        """Whether a path leads out of the working folder by `..`."""
        if not isinstance(path, str) or ".." not in Path(path).parts:
            return False
        return Path(os.path.join(self.folder or "/", path)).is_relative_to(self.folder or "/") and self._is_outside(
            path
        )

    def _is_outside(self, path: object) -> bool:
        name = self._real(path)
        return name not in ("", os.devnull) and ".pyc" not in name and not Path(name).is_relative_to(self.folder or "/")

    def _real(self, path: object) -> str:
        """Return the absolute path behind links; empty for a file descriptor, and for a name that no file has."""
        if not isinstance(path, (str, bytes)) or "\x00" in (name := os.fsdecode(path)):
            return ""
        return os.path.realpath(name)


WATCH = Watch()


@contextmanager
def harmless() -> Iterator[None]:
    """Check that a block ends well or with an error of rft, and touches nothing outside the working folder."""
    WATCH.events, WATCH.folder, WATCH.thread = [], os.path.realpath("."), threading.get_ident()
    before = signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(CASE_S)
    try:
        yield
    except RftError as error:
        assert str(error) and "Traceback" not in str(error)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        WATCH.folder = None
    assert WATCH.events == []
    assert not Path("code_ran").exists()


def _give_up(*_: object) -> NoReturn:
    raise AssertionError(f"the case did not end within {CASE_S} s")
