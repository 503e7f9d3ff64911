"""TensorBoard: event files in the run folder's `tensorboard/`.

TensorBoard's own `RecordWriter` writes the records. Its `EventFileWriter` would import TensorFlow if that is installed,
and torch's `SummaryWriter` would import torch, which the driver does not need.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from rft.events import RunStarted


class TensorBoardSeries:
    """One event file. TensorBoard reads the files of a folder in the order of their names, which begin with the time.

    Args:
        started: The run. If it is resumed, earlier files lose the steps after its checkpoint.
    """

    def __init__(self, started: RunStarted) -> None:
        folder = started.folder / "tensorboard"
        folder.mkdir(exist_ok=True)
        now = time.time()
        self.id = f"events.out.tfevents.{now:017.6f}.{socket.gethostname()}.{os.getpid()}"
        self._file = (folder / self.id).open("xb")
        self._writer = RecordWriter(self._file)
        self._write(Event(wall_time=now, file_version="brain.Event:2"))
        if started.last_step:
            start = SessionLog(status=SessionLog.START)
            self._write(Event(wall_time=now, step=started.last_step + 1, session_log=start))

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write the numbers of a step."""
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in numbers.items()]
        self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def finish(self, status: str) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, event: Event) -> None:
        self._writer.write(event.SerializeToString())
        self._file.flush()


def open_series(started: RunStarted, id: str | None) -> TensorBoardSeries:
    """Begin an event file, in addition to the earlier files of a resumed run."""
    return TensorBoardSeries(started)
