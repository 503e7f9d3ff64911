"""Serves a run's health and metrics as text for Prometheus, on this machine only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rft.errors import OutputError
from rft.health.heartbeat import Heartbeat

if TYPE_CHECKING:
    from prometheus_client.core import Metric

LOOPBACK = "127.0.0.1"


@contextmanager
def metrics_served(heartbeat: Heartbeat, port: int) -> Iterator[str]:
    """Serve the metrics of a run during the block.

    Args:
        heartbeat: Knows the state of the run.
        port: Port on 127.0.0.1; 0 takes a free one.

    Yields:
        The address of the metrics.

    Raises:
        OutputError: The port cannot be used.
    """
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry()
    registry.register(Collector(heartbeat))
    try:
        server, thread = start_http_server(port, addr=LOOPBACK, registry=registry)
    except OSError as error:
        problem = f"logging.prometheus_port={port}: {error.strerror or error}; choose another port, or 0 for a free one"
        raise OutputError("metrics", [problem]) from error
    try:
        yield f"http://{LOOPBACK}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


class Collector:
    """Translates the state of a run into metrics of Prometheus, at each request.

    Args:
        heartbeat: Knows the state of the run.
    """

    def __init__(self, heartbeat: Heartbeat) -> None:
        self._heartbeat = heartbeat

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        beat = self._heartbeat.snapshot()
        yield GaugeMetricFamily("rft_step", "Last complete step", value=beat["step"])
        if beat["steps"] is not None:
            yield GaugeMetricFamily("rft_steps", "Steps of the whole run", value=beat["steps"])
        if beat["step_s"] is not None:
            yield GaugeMetricFamily("rft_step_seconds", "Seconds per step, of recent steps", value=beat["step_s"])
        yield GaugeMetricFamily("rft_disk_free_bytes", "Free bytes on the run folder's disk", beat["disk_free_bytes"])
        longest = max((wait["waited_s"] for wait in beat["waits"]), default=0.0)
        yield GaugeMetricFamily("rft_longest_wait_seconds", "Seconds of the longest wait in progress", value=longest)
        recovery = CounterMetricFamily("rft_recovery", "Restarts and repeated work", labels=["what"])
        for name, number in beat["recovery"].items():
            recovery.add_metric([name], number)
        yield recovery
        metrics = GaugeMetricFamily("rft_metric", "Metrics of the last complete step, by rft's name", labels=["name"])
        for name, value in self._heartbeat.metrics().items():
            metrics.add_metric([name], value)
        yield metrics
