"""All probes over one subject."""

import asyncio

import pytest

from rft.auditing.audit_panel import AuditPanel, as_rollout
from rft.auditing.cases import Case
from rft.auditing.examine import build_report, examine, verdict
from rft.auditing.findings import Result
from rft.auditing.grader_profile import GraderProfile
from rft.auditing.probes import PROBES
from rft.auditing.probes.free import CONSTANTS
from tests.auditing.conftest import sums


@pytest.mark.usefixtures("in_workers")
def test_a_grader_that_always_hangs_is_given_up(audit):
    audit.file("import time\ndef hangs(completion, task): time.sleep(60)\n")

    async def look():
        panel = AuditPanel({"main": {"use": "mine.py:hangs", "timeout_s": 0.1}}, max_concurrency=16, num_workers=8)
        try:
            profile = GraderProfile(panel=panel, tasks=sums(), gold="answer")
            return profile, await examine(profile)
        finally:
            panel.close()

    profile, outcomes = asyncio.run(look())
    results = [one.finding.result for one in outcomes]
    assert results == [Result.FAILED] + [Result.NOT_APPLICABLE] * (len(PROBES) - 1)
    assert verdict(outcomes) == "failed"
    report = build_report(profile, outcomes, tasks="sums", seconds=1.0)
    counts = {"failed": 1, "warned": 0, "inconclusive": 0, "passed": 0, "not applicable": len(PROBES) - 1}
    assert report["counts"] == counts


CAREFUL = """
def careful(completion, task):
    if not completion.strip().isdigit():
        raise ValueError("not a number: " + completion[:10])
    return float(completion.strip() == task.item["answer"])
"""


def test_a_probe_whose_cases_the_grader_fails_on_is_inconclusive(audit):
    audit.file(CAREFUL)

    async def look():
        panel = AuditPanel({"main": {"use": "mine.py:careful"}}, max_concurrency=16, num_workers=2)
        try:
            profile = GraderProfile(panel=panel, tasks=sums(), gold="answer")
            names = ("constant answers", "wrong gold", "finite scores")
            return profile, await examine(profile, probes=[probe for probe in PROBES if probe.name in names])
        finally:
            panel.close()

    profile, outcomes = asyncio.run(look())
    findings = {one.probe.name: one.finding for one in outcomes}
    # The answers to other tasks are numbers, so the grader judges them; no constant answer is a number.
    assert {name: str(finding.result) for name, finding in findings.items()} == {
        "constant answers": "inconclusive",
        "wrong gold": "passed",
        "finite scores": "passed",
    }
    finding = findings["constant answers"]
    count = finding.figures["cases"]
    assert finding.figures["grader_faults"] == count == len(CONSTANTS) * len(sums())
    assert finding.message.startswith(
        f"the grader failed on {count} of {count} completions of this probe, which therefore shows nothing: ValueError"
    )
    assert len(finding.examples) > 1
    assert verdict(outcomes) == build_report(profile, outcomes, tasks="sums", seconds=1.0)["verdict"] == "inconclusive"


def test_probes_have_names_of_their_own_and_say_why():
    assert len({probe.name for probe in PROBES}) == len(PROBES)
    for probe in PROBES:
        assert all(len(text) > 20 for text in (probe.why, probe.how, probe.threshold, probe.remedy)), probe.name


def test_tokens_are_counted_at_four_characters(audit):
    rollout = as_rollout(Case(task=sums()[0], completion="12345", note=""))
    assert len(rollout.completion_ids) == len(rollout.logprobs) == 2
