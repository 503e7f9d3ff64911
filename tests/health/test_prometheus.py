"""Metrics for Prometheus, on this machine only."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from rft.errors import OutputError
from rft.events import RunStarted, StepFinished
from rft.health.heartbeat import Heartbeat
from rft.health.prometheus import metrics_served

parser = pytest.importorskip("prometheus_client.parser")


def test_the_metrics_of_a_run(
    beat: Heartbeat,
    started: Callable[..., RunStarted],
    finished: Callable[..., StepFinished],
    clock: Any,
    tmp_path: Path,
) -> None:
    beat.event(started(tmp_path))
    for step in (1, 2):
        clock.now += 4.0
        beat.event(finished(step, reward__mean=0.25 * step, recovery__sampler_restarts=1.0))
    with metrics_served(beat, 0) as address:
        assert address.startswith("http://127.0.0.1:")
        text = httpx.get(address, trust_env=False, timeout=60).text
    families = parser.text_string_to_metric_families(text)
    values = {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}
    assert values["rft_step",] == 2
    assert values["rft_steps",] == 20
    assert values["rft_step_seconds",] == 4.0
    assert values["rft_recovery_total", "sampler_restarts"] == 2
    assert values["rft_metric", "reward/mean"] == 0.5
    assert values["rft_longest_wait_seconds",] == 0
    assert values["rft_disk_free_bytes",] > 0
    beat.close()


def test_a_port_that_is_taken(beat: Heartbeat) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        message = rf"logging\.prometheus_port={port}: Address already in use; choose another port, or 0 for a free one"
        with pytest.raises(OutputError, match=message), metrics_served(beat, port):
            pass
