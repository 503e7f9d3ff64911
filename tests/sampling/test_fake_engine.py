"""The engine that draws from a script."""

from pathlib import Path

from rft.sampling.engine import Request, SamplingOptions
from rft.sampling.fake_engine import FakeEngine
from rft.sampling.spec import EngineSpec, build_engine
from rft.types import Adapter, Policy, StopReason

BASE = Policy(version=0, fingerprint="base")
SPEC = EngineSpec(
    kind="fake",
    model=Path("nowhere"),
    base=BASE,
    max_lora_rank=8,
    dtype="float32",
    max_context_tokens=64,
    seed=0,
    num_threads=1,
    on_gpu=False,
    options={"script": ["one", "two", "h\u00e9"]},
)


def request(index: int, *, seed: int) -> Request:
    return Request(task_id="t", index=index, prompt_ids=(1, 2), seed=seed)


def test_the_seed_chooses_the_completion() -> None:
    engine = FakeEngine(SPEC)
    batches = list(
        engine.sample(
            [request(0, seed=4), request(1, seed=3)], SamplingOptions(temperature=1.0, max_completion_tokens=9)
        )
    )
    assert [[rollout.text for rollout in batch] for batch in batches] == [["two"], ["one"]]
    [two] = batches[0]
    assert (two.task_id, two.index, two.prompt_ids, two.policy) == ("t", 0, (1, 2), BASE)
    assert two.completion_ids == (116, 119, 111)  # t, w, o
    assert two.logprobs == (-1.0, -1.0, -1.0)
    assert two.stop is StopReason.STOP


def test_long_completions_are_cut_even_within_a_character() -> None:
    [[rollout]] = FakeEngine(SPEC).sample(
        [request(0, seed=2)], SamplingOptions(temperature=1.0, max_completion_tokens=2)
    )
    assert (rollout.completion_ids, rollout.text) == ((104, 0xC3), "h\ufffd")
    assert rollout.stop is StopReason.LENGTH


def test_a_completion_of_just_the_longest_length_is_not_cut() -> None:
    [[rollout]] = FakeEngine(SPEC).sample(
        [request(0, seed=0)], SamplingOptions(temperature=1.0, max_completion_tokens=3)
    )
    assert (rollout.text, rollout.stop) == ("one", StopReason.STOP)


def test_it_serves_what_was_loaded_last() -> None:
    engine = build_engine(SPEC)
    assert isinstance(engine, FakeEngine)
    assert engine.policy == BASE
    newer = Policy(version=1, fingerprint="f1")
    assert engine.load(Adapter(policy=newer, config={}, tensors=b"")) == newer
    [[rollout]] = engine.sample([request(0, seed=0)], SamplingOptions(temperature=1.0, max_completion_tokens=9))
    assert (engine.policy, rollout.policy) == (newer, newer)
