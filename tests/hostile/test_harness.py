"""The watch over hostile cases reports each kind of harm, so a property can fail."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("hypothesis")

from rft.errors import ConfigError

from .harness import TARGET, harmless


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.getenv, ("HOME",)


def connect() -> None:
    with socket.socket() as connection, suppress(OSError):
        connection.connect(("127.0.0.1", 1))


@pytest.mark.parametrize(
    "harm",
    [
        lambda: os.system("true"),
        lambda: subprocess.run(["true"], check=True),
        lambda: pickle.loads(pickle.dumps(Bomb())),
        connect,
        lambda: Path(TARGET).read_bytes(),
        lambda: Path("link").read_bytes(),
        lambda: Path("inside", "..", "..", "outside").read_bytes(),
        lambda: Path("..", "outside").write_bytes(b""),
        lambda: Path("..", "outside").unlink(),
        lambda: Path("..", "new").mkdir(),
        lambda: Path("inside").rename(Path("..", "moved")),
        lambda: Path("code_ran").touch(),
    ],
)
def test_harm_is_reported(harm: Callable[[], Any]) -> None:
    Path("inside").mkdir()
    Path("link").symlink_to(TARGET)
    Path("..", "outside").touch()
    with pytest.raises(AssertionError), harmless():
        harm()


def test_work_in_the_folder_and_an_error_of_rft_are_no_harm() -> None:
    with harmless():
        Path("inside").mkdir()
        Path("inside", "file").write_bytes(b"1")
        Path("inside", "file").unlink()
        raise ConfigError("configuration", ["a problem"])


def test_other_errors_pass_through() -> None:
    with pytest.raises(KeyError), harmless():
        raise KeyError("a traceback for the user")
