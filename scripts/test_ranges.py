"""Run the core's unit tests with the oldest and the newest libraries that pyproject.toml allows.

    python scripts/test_ranges.py                      both ends
    python scripts/test_ranges.py lowest-direct        one end
    python scripts/test_ranges.py highest -- -k data   pytest receives the arguments after `--`

Each end has its own environment in a temporary folder: rft's wheel with the extras that add no training. The script
prints the versions. The exit code is 1 if a test failed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

from fresh_environment import ROOT, FreshEnvironment, build_wheel
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ENDS = ("lowest-direct", "highest")
"""Values of uv's `--resolution`."""
EXTRAS = ("data", "pandas", "plots", "reasoning-gym")
FOR_TESTS = ("pytest>=9,<10", "pytest-xdist>=3.8,<4", "psutil>=7,<8", "scipy>=1.17,<2")
FOLDERS = ("auditing", "config", "data", "graders", "grading", "metrics", "models")
"""Folders below tests/ of rooms that neither train nor sample."""
NEED_TRAINING = ("config/test_advantage_problems.py", "config/test_trl_options.py", "config/test_trl_problems.py")
"""Files below tests/ that need torch or TRL."""


def main(words: Sequence[str]) -> int:
    """Test the selected ends; return the exit code."""
    own_end = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ends", nargs="*", metavar="end", help=f"any of {', '.join(ENDS)} (default: both)")
    ends = parser.parse_args(words[:own_end]).ends or ENDS
    if unknown := set(ends) - set(ENDS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(ENDS)}")
    codes = [_test(end, words[own_end + 1 :]) for end in ends]
    return int(any(codes))


def _test(end: str, for_pytest: Sequence[str]) -> int:
    """Test one end; return pytest's exit code."""
    with tempfile.TemporaryDirectory(prefix=f"rft-{end}-") as name:
        folder = Path(name)
        # uv resolves only direct requirements to the lowest version, so it gets pyproject.toml instead of the wheel.
        extras = [word for extra in EXTRAS for word in ("--extra", extra)]
        own = ["--resolution", end, "--requirements", str(ROOT / "pyproject.toml"), *extras]
        environment = FreshEnvironment(folder / "environment", [*own, *FOR_TESTS])
        environment.install("--no-deps", str(build_wheel(folder / "dist")))
        print(f"{end}: {_versions(environment)}", flush=True)
        # The script `pytest`, because `python -m pytest` would put this checkout before the wheel.
        command = [str(environment.bin / "pytest"), "-m", "not e2e", "-n", "auto", "--maxprocesses", "8"]
        tests = [str(ROOT / "tests" / name) for name in FOLDERS]
        ignored = [f"--ignore={ROOT / 'tests' / name}" for name in NEED_TRAINING]
        return subprocess.run([*command, *ignored, *for_pytest, *tests], cwd=ROOT, check=False).returncode


def _versions(environment: FreshEnvironment) -> str:
    """Return the versions of all requirements of the core and of the tested extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [text for extra in EXTRAS for text in project["optional-dependencies"][extra]]
    names = [canonicalize_name(Requirement(text).name) for text in [*project["dependencies"], *extras]]
    versions = environment.versions()
    return ", ".join(f"{name} {versions[name]}" for name in names)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
