"""A Ray that is started for a run."""

from __future__ import annotations

import asyncio

import psutil
import pytest

from rft.cluster import ray_session
from rft.config.schema import LocalCluster

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("no_ray")]


def test_a_ray_of_ones_own_listens_on_loopback_alone() -> None:
    async def listening() -> set[tuple[str, str]]:
        async with ray_session(LocalCluster(), num_processes=1):
            return {
                (process.name(), connection.laddr.ip.removeprefix("::ffff:"))
                for process in psutil.Process().children(recursive=True)
                for connection in process.net_connections(kind="inet")
                if connection.status == psutil.CONN_LISTEN
            }

    found = asyncio.run(listening())
    assert {"gcs_server", "raylet"} <= {name for name, _ in found}
    assert {ip for _, ip in found} == {"127.0.0.1"}
