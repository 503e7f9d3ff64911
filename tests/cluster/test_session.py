"""A Ray that is started for a run."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.e2e

DEADLINE_S = 600
KILL_THE_RAYLET = """
import asyncio
import json
import os
from pathlib import Path

import psutil

from rft.cluster import ray_session
from rft.config.clusters import LocalClusterConfig
from rft.errors import RayLost

# What stands in for the dashboard agent, and the other one: on its way, started, and named.
AGENTS = ("/end_with_raylet.py", "/runtime_env/agent/main.py", "ray::RuntimeEnvAgent")
REPORT_S = 60.0  # for which an agent tries to report the end of the raylet to a head that is gone


async def work(seen):
    async with ray_session(LocalClusterConfig(), num_processes=1):
        processes = psutil.Process().children(recursive=True)
        seen["programs"] = sorted({Path(word).name for process in processes for word in process.cmdline()})
        seen["listening"] = [
            (process.name(), one.laddr.ip.removeprefix("::ffff:"))
            for process in processes
            for one in process.net_connections(kind="inet")
            if one.status == psutil.CONN_LISTEN
        ]
        agents = [one for one in processes if any(word.strip().endswith(AGENTS) for word in one.cmdline())]
        seen["agents"] = len(agents)
        next(process for process in processes if process.name() == "raylet").kill()
        seen["left"] = len(psutil.wait_procs(agents, timeout=REPORT_S / 2)[1])
        await asyncio.Event().wait()


seen = {}
try:
    asyncio.run(work(seen))
except RayLost:
    print(json.dumps(seen), flush=True)
    os._exit(0)  # a process that lost its Ray cannot end otherwise
"""


def test_a_ray_of_ones_own_listens_on_loopback_alone_starts_no_helpers_and_ends_with_its_raylet() -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILL_THE_RAYLET], capture_output=True, text=True, timeout=DEADLINE_S, check=True
    )
    seen = json.loads(done.stdout.splitlines()[-1])  # Ray may have printed something before
    assert not {"dashboard.py", "ray::DashboardAgent", "monitor.py", "log_monitor.py"} & set(seen["programs"])
    assert (seen["agents"], seen["left"]) == (2, 0)
    assert {"gcs_server", "raylet"} <= {name for name, _ in seen["listening"]}
    assert {ip for _, ip in seen["listening"]} == {"127.0.0.1"}
