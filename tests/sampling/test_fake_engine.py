"""The engine that draws from a script."""

import hashlib
import os
from dataclasses import replace

import pytest

from rft.config.samplers.fake import FakeSamplerConfig
from rft.errors import SyncError
from rft.sampling import fake_engine
from rft.sampling.build import build_engine
from rft.sampling.engine import Request, SamplingOptions, sample_all
from rft.sampling.fake_engine import FakeEngine
from rft.types import Adapter, Policy, StopReason

from .conftest import BASE, FAKE_SPEC

SPEC = replace(FAKE_SPEC, sampler=FakeSamplerConfig(script=["one", "two", "h\u00e9"]))
OPTIONS = SamplingOptions(temperature=1.0, max_completion_tokens=9)


def request(index: int, *, seed: int) -> Request:
    return Request(task_id="t", index=index, prompt_ids=(1, 2), seed=seed)


def adapter(version: int) -> Adapter:
    tensors = f"tensors {version}".encode()
    policy = Policy(version=version, fingerprint=hashlib.sha256(tensors).hexdigest()[:16])
    return Adapter(policy=policy, config={}, tensors=tensors)


def test_the_seed_chooses_the_completion() -> None:
    engine = FakeEngine(SPEC)
    engine.add(7, [request(0, seed=4), request(1, seed=3)], OPTIONS, BASE)
    batches = [engine.step() for _ in range(3)]
    assert [[(stream, rollout.text) for stream, rollout in batch] for batch in batches] == [
        [(7, "two")],
        [(7, "one")],
        [],
    ]
    [(_, two)] = batches[0]
    assert (two.task_id, two.index, two.prompt_ids, two.policy) == ("t", 0, (1, 2), BASE)
    assert two.completion_ids == (116, 119, 111)  # t, w, o
    assert two.logprobs == (-1.0, -1.0, -1.0)
    assert two.stop is StopReason.STOP


def test_long_completions_are_cut_even_within_a_character() -> None:
    [rollout] = sample_all(
        FakeEngine(SPEC), [request(0, seed=2)], SamplingOptions(temperature=1.0, max_completion_tokens=2)
    )
    assert (rollout.completion_ids, rollout.text) == ((104, 0xC3), "h\ufffd")
    assert rollout.stop is StopReason.LENGTH


def test_a_completion_of_just_the_longest_length_is_not_cut() -> None:
    [rollout] = sample_all(
        FakeEngine(SPEC), [request(0, seed=0)], SamplingOptions(temperature=1.0, max_completion_tokens=3)
    )
    assert (rollout.text, rollout.stop) == ("one", StopReason.STOP)


def test_it_serves_what_was_loaded_last() -> None:
    engine = build_engine(SPEC)
    assert isinstance(engine, FakeEngine)
    newer = adapter(1)
    assert engine.load(newer).policy == newer.policy
    assert engine.policies == (newer.policy,)
    [rollout] = sample_all(engine, [request(0, seed=0)], OPTIONS)
    assert rollout.policy == newer.policy
    with pytest.raises(SyncError, match=f"asked for policy-v0-base but holds {newer.policy.name}: it missed a sync"):
        engine.add(1, [request(0, seed=0)], OPTIONS, BASE)


def test_older_policies_stay_while_they_are_needed() -> None:
    engine = FakeEngine(replace(SPEC, staleness=1))
    one, two, three = adapter(1), adapter(2), adapter(3)
    engine.add(1, [request(0, seed=0)], OPTIONS, BASE)
    engine.load(one)
    engine.load(two)
    assert engine.policies == (BASE, one.policy, two.policy)  # BASE has a request
    assert [rollout.policy for _, rollout in engine.step()] == [BASE]
    engine.load(three)
    assert engine.policies == (two.policy, three.policy)


def test_a_stream_can_be_given_up() -> None:
    engine = FakeEngine(SPEC)
    engine.add(1, [request(0, seed=0)], OPTIONS, BASE)
    engine.add(2, [request(0, seed=1)], OPTIONS, BASE)
    engine.abort(1)
    assert [(stream, rollout.text) for stream, rollout in engine.step()] == [(2, "two")]
    assert not engine.has_unfinished


def test_at_a_pace_completions_end_when_they_are_due(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        now_s = 0.0

        def monotonic(self) -> float:
            return self.now_s

        def sleep(self, seconds: float) -> None:
            self.now_s += seconds

    clock = Clock()
    monkeypatch.setattr(fake_engine, "time", clock)
    engine = FakeEngine(replace(SPEC, sampler=FakeSamplerConfig(script=["one"], completions_per_s=32)))
    clock.now_s = 1.0  # it was idle until now
    engine.add(1, [request(index, seed=0) for index in range(4)], OPTIONS, BASE)
    assert [rollout.index for _, rollout in engine.step()] == [0]
    assert clock.now_s == 1.0 + 1 / 32
    clock.now_s = 1.0 + 3.5 / 32  # it was held up
    assert [rollout.index for _, rollout in engine.step()] == [1, 2]
    assert [rollout.index for _, rollout in engine.step()] == [3]
    assert clock.now_s == 1.0 + 4 / 32


def test_at_a_slow_pace_others_get_their_turn() -> None:
    engine = FakeEngine(replace(SPEC, sampler=FakeSamplerConfig(script=["one"], completions_per_s=0.001)))
    engine.add(1, [request(0, seed=0)], OPTIONS, BASE)
    assert engine.step() == []
    assert engine.has_unfinished


@pytest.mark.parametrize(("num_gpus", "visible"), [(0.0, ""), (0.5, "3")])
def test_an_engine_without_a_gpu_sees_none(monkeypatch: pytest.MonkeyPatch, num_gpus: float, visible: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    build_engine(replace(SPEC, place=replace(SPEC.place, num_gpus=num_gpus)))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == visible
