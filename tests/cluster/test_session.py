"""A Ray that is started for a run."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil
import pytest

from rft.cluster import ray_session
from rft.config.clusters import LocalClusterConfig
from rft.errors import RayLost

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("no_ray")]


AGENTS = {"ray::DashboardAgent", "ray::RuntimeEnvAgent"}
REPORT_S = 60.0
"""Seconds for which an agent tries to report the end of the raylet to a head that is gone."""


def test_a_ray_of_ones_own_listens_on_loopback_alone_starts_no_helpers_and_ends_with_its_raylet() -> None:
    listening: set[tuple[str, str]] = set()

    async def work() -> None:
        async with ray_session(LocalClusterConfig(), num_processes=1):
            processes = psutil.Process().children(recursive=True)
            programs = {Path(word).name for process in processes for word in process.cmdline()}
            assert not {"dashboard.py", "monitor.py", "log_monitor.py"} & programs
            for process in processes:
                connections = process.net_connections(kind="inet")
                ips = [one.laddr.ip for one in connections if one.status == psutil.CONN_LISTEN]
                listening.update((process.name(), ip.removeprefix("::ffff:")) for ip in ips)
            agents = [process for process in processes if process.cmdline()[0].strip() in AGENTS]
            assert len(agents) == len(AGENTS)
            next(process for process in processes if process.name() == "raylet").kill()
            _, left = psutil.wait_procs(agents, timeout=REPORT_S / 2)
            assert left == []
            await asyncio.Event().wait()

    with pytest.raises(RayLost):
        asyncio.run(work())
    assert {"gcs_server", "raylet"} <= {name for name, _ in listening}
    assert {ip for _, ip in listening} == {"127.0.0.1"}
