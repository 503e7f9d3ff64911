"""A Ray that is started for a run."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil
import pytest

from rft.cluster import ray_session
from rft.config.clusters import LocalClusterConfig

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("no_ray")]


def test_a_ray_of_ones_own_listens_on_loopback_alone_and_starts_no_helpers() -> None:
    async def listening() -> set[tuple[str, str]]:
        async with ray_session(LocalClusterConfig(), num_processes=1):
            processes = psutil.Process().children(recursive=True)
            programs = {Path(word).name for process in processes for word in process.cmdline()}
            assert not {"dashboard.py", "monitor.py", "log_monitor.py"} & programs
            return {
                (process.name(), connection.laddr.ip.removeprefix("::ffff:"))
                for process in processes
                for connection in process.net_connections(kind="inet")
                if connection.status == psutil.CONN_LISTEN
            }

    found = asyncio.run(listening())
    assert {"gcs_server", "raylet"} <= {name for name, _ in found}
    assert {ip for _, ip in found} == {"127.0.0.1"}
