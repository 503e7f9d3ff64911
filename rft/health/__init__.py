"""The health of a run, for other processes: heartbeat.json, `rft status`, and metrics for Prometheus."""
