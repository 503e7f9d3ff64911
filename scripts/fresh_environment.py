"""A fresh virtual environment, made with uv, for checks of an installation."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
UV = (sys.executable, "-m", "uv")
TIMEOUT_S = 600


def build_wheel(folder: Path) -> Path:
    """Build rft's wheel into a folder without other wheels."""
    subprocess.run([*UV, "build", "--quiet", "--wheel", "--out-dir", str(folder), str(ROOT)], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


class FreshEnvironment:
    """An environment that contains only the given requirements.

    Args:
        folder: Folder of the environment.
        requirements: Arguments of `uv pip install`, including options.

    Raises:
        subprocess.CalledProcessError: uv cannot install the requirements.
    """

    def __init__(self, folder: Path, requirements: Sequence[str]) -> None:
        subprocess.run([*UV, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
        self.bin = folder / "bin"
        self.install(*requirements)

    def install(self, *words: str) -> None:
        """Run `uv pip install` with these arguments.

        Raises:
            subprocess.CalledProcessError: uv cannot install the requirements.
        """
        command = [*UV, "pip", "install", "--quiet", "--python", str(self.bin / "python")]
        subprocess.run([*command, *words], check=True)

    def run(self, program: str, *words: str, folder: Path) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment in a folder, like a user, without this checkout on the import path."""
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return subprocess.run(
            [str(self.bin / program), *words],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    def versions(self) -> dict[str, str]:
        """Return the versions of all distributions, by name."""
        command = [*UV, "pip", "list", "--python", str(self.bin / "python"), "--format", "freeze"]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        return dict(line.split("==") for line in lines if "==" in line)
