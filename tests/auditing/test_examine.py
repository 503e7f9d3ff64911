"""All probes over one subject."""

import asyncio

import pytest

from rft.auditing.bench import Bench, as_rollout
from rft.auditing.cases import Case
from rft.auditing.examine import as_object, examine, verdict
from rft.auditing.findings import Result
from rft.auditing.probes import PROBES
from rft.auditing.subject import Subject
from tests.auditing.conftest import sums


@pytest.mark.usefixtures("in_workers")
def test_a_grader_that_always_hangs_is_given_up(audit):
    audit.file("import time\ndef hangs(completion, task): time.sleep(60)\n")

    async def look():
        bench = Bench({"main": {"use": "mine.py:hangs", "timeout_s": 0.1}}, max_concurrency=16, num_workers=8)
        try:
            subject = Subject(bench=bench, tasks=sums(), gold="answer")
            return subject, await examine(subject)
        finally:
            bench.close()

    subject, looked = asyncio.run(look())
    results = [one.finding.result for one in looked]
    assert results == [Result.FAILED] + [Result.NOT_APPLICABLE] * (len(PROBES) - 1)
    assert verdict(looked) == "failed"
    report = as_object(subject, looked, tasks="sums", seconds=1.0)
    assert report["counts"] == {"failed": 1, "warned": 0, "passed": 0, "not applicable": len(PROBES) - 1}


def test_probes_have_names_of_their_own_and_say_why():
    assert len({probe.name for probe in PROBES}) == len(PROBES)
    for probe in PROBES:
        assert all(len(text) > 20 for text in (probe.why, probe.how, probe.threshold, probe.remedy)), probe.name


def test_tokens_are_counted_at_four_characters(audit):
    rollout = as_rollout(Case(task=sums()[0], completion="12345", note=""))
    assert len(rollout.completion_ids) == len(rollout.logprobs) == 2
