"""The share of the time in which samplers have requests, with a clock that is set by hand."""

from __future__ import annotations

from rft.sampling.busy_time import BusyTime


def test_time_with_requests_is_summed_over_samplers() -> None:
    now = [100.0]
    busy = BusyTime(clock=lambda: now[0])
    busy.available(2)
    busy.available(1)  # one is lost later
    now[0] = 101.0
    busy.begin("a", 2)
    now[0] = 102.0
    busy.begin("a", 1)
    busy.begin("b", 1)
    now[0] = 104.0
    busy.end("a")
    busy.end("a")
    busy.end_all("b")  # lost: from 102 to 104
    busy.end("b")  # a result that arrived before the loss
    now[0] = 105.0
    busy.end("a")  # busy from 101 to 105
    now[0] = 109.0
    busy.begin("a", 1)
    now[0] = 110.0
    busy.stop()  # the last request is given up: from 109 to 110
    now[0] = 200.0
    assert busy.busy_s == (105 - 101) + (104 - 102) + (110 - 109)
    assert busy.available_s == 2 * (110 - 100)
