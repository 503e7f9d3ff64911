"""Worker processes run untrusted code, so their messages are checked before they count as scores."""

import pytest

from rft.grading.processes.wire import decode_scores


@pytest.mark.parametrize(
    "line",
    [
        "",
        "[]",
        "1",
        "{}",
        "[[], 0]",
        '[[[1.0, "ok", null, null], [1.0, "ok", null, null]], 0]',
        '[[["1.0", "ok", null, null]], 0]',
        '[[[true, "ok", null, null]], 0]',
        '[[[NaN, "ok", null, null]], 0]',
        '[[[Infinity, "ok", null, null]], 0]',
        '[[[null, "ok", null, null]], 0]',
        '[[[0.0, "timeout", null, null]], 0]',
        '[[[1.0, "great", null, null]], 0]',
        '[[[1.0, "ok", null]], 0]',
        "[" * 100_000,
    ],
)
def test_what_a_worker_sends_is_not_believed(line):
    with pytest.raises(ValueError, match="scores"):
        decode_scores(line, 1)
