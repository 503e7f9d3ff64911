"""Experiment trackers as sinks on the driver. Each number has one name, the same as in metrics.jsonl."""

from rft.trackers.sink import TrackerSink, open_tracker

__all__ = ["TrackerSink", "open_tracker"]
