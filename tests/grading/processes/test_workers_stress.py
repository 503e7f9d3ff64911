"""Graders that hang and crash among thousands of calls."""

import asyncio

import psutil
import pytest

from rft.grading import Status

from ..conftest import make_task
from .test_workers import BAD


@pytest.mark.e2e
@pytest.mark.full
def test_thousands_of_completions_with_hanging_and_crashing_graders(bench):
    """2,000 completions, 1% hang, 1% crash: all others are right, and nothing is left over."""
    bench.file(BAD)
    count, share, limit_s, num_workers = 2000, 100, 2.0, 2
    texts = [{0: "regex", 1: "segfault", 51: "exit"}.get(index % share, "fine") for index in range(count)]
    texts = ["fine" if text == "exit" and index % 200 < 100 else text for index, text in enumerate(texts)]
    me = psutil.Process()

    async def main():
        panel = bench.panel({"g": bench.spec("bad", timeout_s=limit_s)}, num_workers=num_workers)
        try:
            await bench.graded(panel, make_task("warm"), ["fine"] * 500)
            before = me.memory_info().rss
            groups = [
                (await bench.graded(panel, make_task(f"t{n}"), texts[n : n + 250]))[0] for n in range(0, count, 250)
            ]
            return groups, me.memory_info().rss - before, panel
        finally:
            panel.close()

    groups, growth, panel = asyncio.run(main())
    expected = {"regex": (Status.TIMEOUT, None), "fine": (Status.OK, 0.5)}
    for text, grade in zip(texts, (grade for group in groups for grade in group.grades), strict=True):
        score = grade.scores["g"]
        assert (score.status, score.value) == expected.get(text, (Status.GRADER_ERROR, None)), text
    faulty = sum(text != "fine" for text in texts)
    assert panel.counters["g"].faults == {Status.TIMEOUT: 20, Status.GRADER_ERROR: faulty - 20}
    assert panel.workers_replaced == faulty
    assert growth < 32 << 20
    assert me.children(recursive=True) == []
