"""The counts of recoveries in metrics, events and summary."""

from __future__ import annotations

import json
from pathlib import Path

from rft.events import GraderCallRepeated
from rft.run.recovery_counts import RecoveryCounts
from rft.run_folder.folder_sink import FolderSink
from rft.run_folder.recorder import Recorder


def test_a_repeated_call_of_a_grader_is_counted(tmp_path: Path) -> None:
    event = GraderCallRepeated(grader="g", task_id="t", reason="its worker process was ended by SIGKILL")
    counts, sink = RecoveryCounts(), FolderSink(Recorder(tmp_path))
    for receiver in (counts, sink):
        receiver.event(event)
        receiver.event(event)
    assert counts.totals([]) == {"repeated_grader_calls": 2}
    assert counts.take_metrics() == {"recovery/repeated_grader_calls": 2.0}
    assert counts.take_metrics() == {}
    lines = list(map(json.loads, (tmp_path / "events.jsonl").read_text().splitlines()))
    assert [(line["event"], line["grader"], line["task_id"]) for line in lines] == [
        ("grader_call_repeated", "g", "t")
    ] * 2
