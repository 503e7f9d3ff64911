"""An agent of Ray ends together with the raylet; here both are fakes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import rft.cluster

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has a parent-death signal")

SCRIPT = Path(rft.cluster.__file__).with_name("end_with_raylet.py")
FAKE_AGENT = "import time; print('the agent works', flush=True); time.sleep(1000)"
FAKE_RAYLET = f"""
import os, subprocess, sys
os.environ["RAY_RAYLET_PID"] = str(os.getpid())
subprocess.run([sys.executable, "-I", "-S", {str(SCRIPT)!r}, sys.executable, "-c", {FAKE_AGENT!r}])
"""


def test_a_killed_raylet_takes_its_agent_along() -> None:
    with subprocess.Popen([sys.executable, "-c", FAKE_RAYLET], stdout=subprocess.PIPE, text=True) as raylet:
        assert raylet.stdout is not None
        assert raylet.stdout.readline() == "the agent works\n"
        raylet.kill()
        assert raylet.communicate(timeout=300) == ("", None), "the agent has closed its output"


def test_an_agent_does_not_start_after_the_raylet() -> None:
    agent = subprocess.run(
        [sys.executable, "-I", "-S", SCRIPT, sys.executable, "-c", FAKE_AGENT],
        env=os.environ | {"RAY_RAYLET_PID": "1"},
        capture_output=True,
        timeout=300,
        check=True,
    )
    assert (agent.stdout, agent.stderr) == (b"", b"")
