"""Requests that are alike: each is sampled once, and whoever gives up takes nothing from those who still wait."""

from __future__ import annotations

from typing import Any

import pytest

from rft.sampling import shared_requests
from rft.sampling.engine import Request, SamplingOptions
from rft.sampling.shared_requests import SharedRequests

OPTIONS = SamplingOptions(temperature=1.0, max_completion_tokens=9)
ONE, TWO, THREE = (Request(task_id="t", index=index, prompt_ids=(1, 2), seed=7) for index in range(3))


def test_what_somebody_waits_for_is_not_sampled_again(make_rollout: Any) -> None:
    asked = SharedRequests()
    assert asked.ask(1, [ONE, TWO], OPTIONS) == ([ONE, TWO], [])
    assert asked.ask(2, [TWO, THREE], OPTIONS) == ([THREE], [])
    assert asked.end(1, make_rollout("t", 0)) == [1]
    assert asked.end(1, make_rollout("t", 1)) == [1, 2]
    assert asked.end(2, make_rollout("t", 2)) == [2]
    there = [make_rollout("t", index) for index in range(3)]
    assert asked.ask(3, [ONE, TWO, THREE], OPTIONS) == ([], there)


@pytest.mark.parametrize(
    ("other", "options"),
    [
        (Request(task_id="t", index=0, prompt_ids=(1, 2), seed=8), OPTIONS),
        (Request(task_id="t", index=0, prompt_ids=(1, 3), seed=7), OPTIONS),
        (Request(task_id="u", index=0, prompt_ids=(1, 2), seed=7), OPTIONS),
        (ONE, SamplingOptions(temperature=0.5, max_completion_tokens=9)),
        (ONE, SamplingOptions(temperature=1.0, max_completion_tokens=8)),
    ],
)
def test_what_differs_is_sampled(make_rollout: Any, other: Request, options: SamplingOptions) -> None:
    asked = SharedRequests()
    asked.ask(1, [ONE], OPTIONS)
    assert asked.ask(2, [other], options) == ([other], [])
    asked.end(1, make_rollout("t", 0))
    assert asked.ask(3, [other], options) == ([], [])


def test_a_stream_that_asked_elsewhere_gets_its_own(make_rollout: Any) -> None:
    assert SharedRequests().end(5, make_rollout("t", 0)) == [5]


def test_who_gives_up_first_leaves_what_others_wait_for(make_rollout: Any) -> None:
    asked = SharedRequests()
    asked.ask(1, [ONE, TWO], OPTIONS)
    asked.ask(2, [TWO], OPTIONS)
    assert asked.leave(1) == set(), "the engine goes on with all of it, under the number of the first"
    assert asked.end(1, make_rollout("t", 0)) == []
    assert asked.end(1, make_rollout("t", 1)) == [2]


def test_when_nobody_waits_any_more_the_engine_is_told() -> None:
    asked = SharedRequests()
    asked.ask(1, [ONE], OPTIONS)
    asked.ask(2, [ONE], OPTIONS)
    assert asked.leave(1) == set()
    assert asked.leave(2) == {1, 2}
    assert asked.ask(3, [ONE], OPTIONS) == ([ONE], []), "given up, so it is sampled anew"


def test_the_newest_are_kept(make_rollout: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rollouts = [make_rollout("t", index) for index in range(3)]
    num_tokens = len(rollouts[0].prompt_ids) + len(rollouts[0].completion_ids)
    monkeypatch.setattr(shared_requests, "KEPT_TOKENS", 3 * num_tokens - 1)
    asked = SharedRequests()
    asked.ask(1, [ONE, TWO, THREE], OPTIONS)
    for rollout in rollouts:
        asked.end(1, rollout)
    assert asked.ask(2, [ONE, TWO, THREE], OPTIONS) == ([ONE], rollouts[1:])
