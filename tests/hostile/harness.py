"""Hostile values, and a watch over what the code under test does with them.

Every property says: a clear error or success, no code run, no file touched outside of the folder of the test. The tests
run a few hundred cases from fixed seeds. `make fuzz` takes new seeds, and RFT_FUZZ_CASES is its number of cases of each
property.
"""

from __future__ import annotations

import copy
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

from hypothesis import HealthCheck, settings, target
from hypothesis import strategies as st

import rft
from rft.errors import RftError

FUZZ_CASES = int(os.environ.get("RFT_FUZZ_CASES", "0"))

PAYLOADS = (
    "",
    "\x00",
    "\ud800",
    "..",
    "../../../etc/passwd",
    "/etc/passwd",
    "file:///etc/passwd",
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
    "x" * 10_000,
    "NaN",
    "\u202egnp.exe",
)
"""Texts that have broken parsers, templates, shells and paths."""

FORBIDDEN = (
    *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "pty.spawn", "subprocess.Popen"),
    *("socket.connect", "socket.getaddrinfo", "pickle.find_class", "os.remove", "os.rename", "shutil.rmtree"),
)
"""Audit events of Python that reading a stranger's data must not cause."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def cases(in_ci: int) -> Callable[[Any], Any]:
    """The number of cases of a property: `in_ci` from a fixed seed, or those of `make fuzz`."""
    return settings(
        max_examples=FUZZ_CASES or in_ci,
        derandomize=not FUZZ_CASES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )


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
def damaged(draw: st.DrawFn, whole: Sequence[bytes]) -> bytes:
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
    return bytes(content) if draw(st.integers(0, 9)) else draw(st.binary(max_size=64))


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

    Audit hooks cannot be removed, so there is one for all tests. Threads of other tests may still run.
    """

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.thread = 0
        self.events: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None or self.thread != threading.get_ident():
            return
        if event in FORBIDDEN or (event == "open" and self._is_escape(*arguments[:3])):
            self.events.append(f"{event}{arguments}")

    def _is_escape(self, path: object, _: object, flags: object) -> bool:
        if not isinstance(path, (str, bytes)) or not isinstance(flags, int) or not flags & _WRITING:
            return False
        name = os.fsdecode(path)
        return (
            ".pyc" not in name and name != os.devnull and not Path(name).absolute().is_relative_to(self.folder or "/")
        )


WATCH = Watch()


@contextmanager
def harmless(folder: Path) -> Iterator[None]:
    """Check that a block ends well or with an error of rft, and touches nothing outside of the folder."""
    WATCH.events, WATCH.folder, WATCH.thread = [], folder, threading.get_ident()
    lines: set[tuple[str, int]] = set()
    try:
        with _counted_lines(lines) if FUZZ_CASES else nullcontext():
            yield
    except RftError as error:
        assert str(error) and "Traceback" not in str(error)
    finally:
        WATCH.folder = None
    if FUZZ_CASES:
        target(float(len(lines)), label="lines of rft")  # guides the search: a case that runs more code is better
    assert WATCH.events == []
    assert not Path("code_ran").exists()


@contextmanager
def _counted_lines(lines: set[tuple[str, int]]) -> Iterator[None]:
    """Collect the lines of rft that a block runs."""
    root = str(Path(rft.__file__).parent)

    def trace(frame: FrameType, _: str, __: Any) -> Any:
        if not frame.f_code.co_filename.startswith(root):
            return None
        lines.add((frame.f_code.co_filename, frame.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)
