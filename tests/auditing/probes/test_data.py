"""Leaks in prompts, and the signal in recorded completions."""

import pytest

from rft.auditing.findings import Result
from rft.auditing.probes import data
from rft.types import StopReason
from tests.auditing.conftest import make_tasks, sums


def test_leaks(audit):
    rows = [{"prompt": "What is 6 * 7? (Answer: 42)", "answer": "42"}, {"prompt": "1 + 1?", "answer": "2"}]
    finding = audit("exact", data.gold_leakage, tasks=make_tasks(rows))
    assert (finding.result, finding.figures["stating"]) == (Result.FAILED, 1)
    assert audit("exact", data.gold_leakage).result is Result.PASSED


def test_informative_groups():
    assert data.informative_probability([1.0, 0.0], 2) == 1.0
    # 16 completions, 2 right: 1 - [C(2,8) + C(14,8)] / C(16,8) = 1 - 3003/12870
    assert data.informative_probability([1.0] * 2 + [0.0] * 14, 8) == pytest.approx(1 - 3003 / 12870)
    # three values, once, once and twice, groups of 2: 1 - C(2,2)/C(4,2)
    assert data.informative_probability([0.0, 0.5, 1.0, 1.0], 2) == pytest.approx(5 / 6)
    assert data.informative_probability([1.0, 1.0, None], 4) == 0.0


def test_signal(audit, make_rollout):
    tasks = sums()

    def recorded(*texts):
        return [(task, [make_rollout(task.id, n, text=text) for n, text in enumerate(texts)]) for task in tasks]

    finding = audit("exact", data.signal, tasks=tasks, recorded=recorded("7", "42"))
    # Two of eight tasks are solved by one of two completions.
    assert (finding.figures["mean"], finding.figures["informative"]) == (0.125, 0.25)
    assert finding.result is Result.PASSED
    finding = audit("exact", data.signal, tasks=tasks, recorded=recorded("7", "x"))
    assert (finding.result, finding.figures["informative"]) == (Result.WARNED, 0.125)
    assert audit("exact", data.signal, tasks=tasks, recorded=recorded("x", "y")).result is Result.FAILED
    assert audit("exact", data.signal).result is Result.NOT_APPLICABLE


def test_completions_that_were_cut(audit, make_rollout):
    tasks = sums()
    recorded = [(tasks[0], [make_rollout("t0", text="7", stop=StopReason.LENGTH)])]
    finding = audit("exact", data.cut_completions, tasks=tasks, recorded=recorded)
    assert (finding.result, finding.examples[0].case.completion) == (Result.WARNED, "7")
