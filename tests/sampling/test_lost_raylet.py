"""A raylet that is asked to end during a step leaves the driver its message and its exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
DEADLINE_S = 300


@pytest.mark.parametrize("max_restarts", [2, pytest.param(0, marks=pytest.mark.full)])
def test_a_raylet_that_ends_during_a_step(tmp_path: Path, max_restarts: int) -> None:
    command = [sys.executable, "-m", "tests.sampling.lost_raylet_program", str(tmp_path), str(max_restarts)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 69, done.stderr
    # On stderr if the driver was blocked in a call of Ray's, and the watching thread ended the process.
    said = done.stdout + done.stderr
    assert "has ended while the run was under way; continue from the last checkpoint with resume=" in said
