"""Which tasks are left after a look at their pass rates."""

from collections.abc import Callable

import pytest

from rft.errors import DataError
from rft.metrics.pass_rates import filter_by_pass_rate
from rft.types import Task

RATES = {"never": 0.0, "low": 0.1, "half": 0.5, "high": 0.9, "always": 1.0}


def test_the_bounds_are_within(make_task: Callable[..., Task]) -> None:
    tasks = [make_task(name) for name in [*RATES, "ungraded"]]
    filtered = filter_by_pass_rate(tasks, RATES, min=0.1, max=0.9, at_least=3)
    assert [task.id for task in filtered.tasks] == ["low", "half", "high"]
    assert filtered.metrics == {"tasks/kept": 3, "tasks/too_easy": 1, "tasks/too_hard": 1, "tasks/ungraded": 1}


def test_too_few_tasks_are_refused_with_the_counts(make_task: Callable[..., Task]) -> None:
    tasks = [make_task(name) for name in RATES]
    with pytest.raises(DataError) as caught:
        filter_by_pass_rate(tasks, RATES, min=0.4, max=0.6, at_least=2)
    assert "only 1 of 5 training tasks have a pass rate from 0.4 to 0.6" in str(caught.value)
    assert "(2 below, 2 above, 0 without a reward)" in str(caught.value)
    assert "loop.prompts_per_step=2" in str(caught.value)
