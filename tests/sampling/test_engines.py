"""The real engines, in this process, on the tiny model: what they say they sampled is what they sampled."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rft.config.samplers.transformers import TransformersSamplerConfig
from rft.config.samplers.vllm import VllmSamplerConfig
from rft.learning.pack_weights import pack_adapter
from rft.models.base_model import fingerprint
from rft.sampling.build import build_engine
from rft.sampling.engine import BatchShape, Engine, Request, SamplingOptions, TopRequest
from rft.sampling.spec import EnginePlace, EngineSpec
from rft.types import Adapter, Policy, Rollout, StopReason

pytestmark = pytest.mark.e2e

KINDS = ("vllm", "transformers")
OPTIONS = SamplingOptions(temperature=0.8, max_completion_tokens=24)
GREEDY = SamplingOptions(temperature=0.0, max_completion_tokens=24)
ROUNDING = 1e-4
"""Of float32 in a log-probability: eps x sqrt(2,500 operations in a row) x values of about 10 is 6e-5."""
QUESTIONS = ("84 + 95 =", "7 - 12 =", "What is the greatest common divisor of these numbers: 12, 18?", "hello")


@pytest.fixture(scope="module")
def spec(tiny_model: Path) -> EngineSpec:
    return EngineSpec(
        sampler=VllmSamplerConfig(),
        base=Policy(version=0, fingerprint=fingerprint(tiny_model)),
        max_lora_rank=8,
        dtype="float32",
        max_context_tokens=128,
        seed=0,
        place=EnginePlace(model=tiny_model, num_threads=1, num_gpus=0),
    )


@pytest.fixture(scope="module")
def engines(spec: EngineSpec) -> Callable[[str], Engine]:
    """One engine of each kind for the whole file; each test begins by loading what it wants served."""
    built: dict[str, Engine] = {}

    def get(kind: str) -> Engine:
        if kind not in built:
            sampler = (
                TransformersSamplerConfig(completions_per_batch=3) if kind == "transformers" else VllmSamplerConfig()
            )
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("HF_HUB_OFFLINE", "1")
                built[kind] = build_engine(replace(spec, sampler=sampler))
            if kind == "vllm":
                assert built[kind].policies == (spec.base,)
        return built[kind]

    return get


@pytest.fixture(scope="module")
def adapters(make_peft_model: Callable[..., Any], tiny_model: Path) -> list[tuple[Any, Adapter]]:
    """Two PEFT models and their adapters, each really different from the base and from each other."""
    models = [make_peft_model(seed=seed) for seed in (1, 2)]
    return [
        (model, pack_adapter(model, version=version, base_model_name=str(tiny_model)))
        for version, model in enumerate(models, 1)
    ]


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture(scope="module")
def requests(tokenizer: Any) -> list[Request]:
    """Prompts of different lengths, two completions each."""
    made = []
    for number, question in enumerate(QUESTIONS):
        messages = [{"role": "user", "content": question}]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = tuple(tokenizer.encode(text, add_special_tokens=False))
        made += [
            Request(task_id=f"t{number}", index=index, prompt_ids=ids, seed=100 * number + index) for index in (0, 1)
        ]
    return made


@torch.no_grad()
def recomputed(model: Any, rollout: Rollout, temperature: float) -> list[float]:
    """The log-probabilities of a rollout's tokens, from a forward pass of Transformers."""
    ids = torch.tensor([[*rollout.prompt_ids, *rollout.completion_ids]])
    logits = model(ids).logits[0, len(rollout.prompt_ids) - 1 : -1].float() / temperature
    return torch.log_softmax(logits, -1)[range(len(rollout.completion_ids)), list(rollout.completion_ids)].tolist()


def sample(engine: Engine, requests: Sequence[Request], options: SamplingOptions = OPTIONS) -> list[Rollout]:
    rollouts = [rollout for batch in batches_of(engine, requests, options) for rollout in batch]
    return sorted(rollouts, key=lambda rollout: (rollout.task_id, rollout.index))


def batches_of(engine: Engine, requests: Sequence[Request], options: SamplingOptions) -> list[list[Rollout]]:
    """What leaves together, under the newest policy."""
    engine.add(1, requests, options, engine.policies[-1])
    batches = []
    while engine.has_unfinished:
        ended = engine.step()
        assert {stream for stream, _ in ended} <= {1}
        batches.append([rollout for _, rollout in ended])
    return [batch for batch in batches if batch]


def num_different(found: Sequence[Rollout], expected: Sequence[Rollout]) -> int:
    """How many completions are not the same.

    In batches of other shapes a log-probability is rounded otherwise, which changes a sampled token with a probability
    of at most ROUNDING: one of these 8 completions of 24 tokens in a hundred such tests, two in ten thousand.
    """
    pairs = zip(found, expected, strict=True)
    return sum(one.completion_ids != other.completion_ids for one, other in pairs)


def largest_difference(model: Any, rollouts: Sequence[Rollout]) -> float:
    pairs = [
        (sampled, computed)
        for rollout in rollouts
        for sampled, computed in zip(rollout.logprobs, recomputed(model, rollout, OPTIONS.temperature), strict=True)
    ]
    return max(abs(sampled - computed) for sampled, computed in pairs)


@pytest.mark.parametrize("kind", KINDS)
def test_logprobs_are_those_of_the_policy_that_is_served(
    engines: Callable[[str], Engine],
    kind: str,
    spec: EngineSpec,
    requests: list[Request],
    adapters: list[tuple[Any, Adapter]],
    tiny_model: Path,
) -> None:
    engine = engines(kind)
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    assert engine.policies == (spec.base,), "this test is the first of its engine"
    rollouts = sample(engine, requests)
    assert {rollout.policy for rollout in rollouts} == {spec.base}
    assert largest_difference(base, rollouts) < ROUNDING
    # One adapter after the other: the second does not add to the first, and nothing cached of the first is read.
    for (model, adapter), (other, _) in zip(adapters, reversed(adapters), strict=True):
        loaded = engine.load(adapter)
        assert (loaded.policy, loaded.problems) == (adapter.policy, ())
        assert loaded.modules_matched == 7 * model.config.num_hidden_layers
        assert engine.policies == (adapter.policy,)
        rollouts = sample(engine, requests)
        assert {rollout.policy for rollout in rollouts} == {adapter.policy}
        assert largest_difference(model, rollouts) < ROUNDING
        assert largest_difference(base, rollouts) > 0.01
        assert largest_difference(other, rollouts) > 0.01
    # An older one may come back, as with a resume.
    model, adapter = adapters[0]
    engine.load(adapter)
    assert largest_difference(model, sample(engine, requests)) < ROUNDING


@pytest.mark.parametrize("kind", KINDS)
def test_the_most_probable_tokens_at_each_position(
    kind: str, engines: Callable[[str], Engine], adapters: list[tuple[Any, Adapter]]
) -> None:
    model, adapter = adapters[0]
    engine = engines(kind)
    engine.load(adapter)
    sequences, starts = ((20, 21, 22, 23, 24), (30, 31, 32)), (3, 1)
    logprobs, tops = engine.top_logprobs(sequences, TopRequest(5, starts))
    for row, again in zip(logprobs, engine.logprobs(sequences), strict=True):
        assert row == pytest.approx(again, abs=ROUNDING)
    for ids, start, top in zip(sequences, starts, tops, strict=True):
        with torch.no_grad():
            expected = torch.log_softmax(model(torch.tensor([ids])).logits[0, start - 1 : -1], -1)
        best = torch.tensor(top.ids.tolist()).view(len(ids) - start, 5)
        assert top.logprobs.tolist() == pytest.approx(expected.topk(5).values.flatten().tolist(), abs=ROUNDING)
        assert top.logprobs.tolist() == pytest.approx(expected.gather(1, best).flatten().tolist(), abs=ROUNDING)


@pytest.mark.parametrize("kind", KINDS)
def test_stop_strings_end_a_completion(
    engines: Callable[[str], Engine], requests: list[Request], kind: str, tokenizer: Any
) -> None:
    free = sample(engines(kind), requests, GREEDY)
    stop = next(rollout.text[2:4] for rollout in free if len(rollout.text) > 5)
    stopped = sample(engines(kind), requests, replace(GREEDY, stop=(stop, "never said")))
    assert any(stop in rollout.text for rollout in free)
    for before, after in zip(free, stopped, strict=True):
        said, _, _ = before.text.partition(stop)
        assert after.text == said
        length = len(after.completion_ids)
        assert after.completion_ids == before.completion_ids[:length]
        assert after.logprobs == pytest.approx(before.logprobs[:length], abs=1e-4)
        if stop in before.text:
            assert after.stop is StopReason.STOP
            # The tokens of the stop string are there, and none behind the one that completes it.
            assert stop in tokenizer.decode(after.completion_ids)
            assert stop not in tokenizer.decode(after.completion_ids[:-1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_stop_string_may_be_a_control_token(
    engines: Callable[[str], Engine], requests: list[Request], kind: str, tokenizer: Any
) -> None:
    hot = SamplingOptions(temperature=50.0 if kind == "transformers" else 2.0, max_completion_tokens=64)
    rollouts = sample(engines(kind), requests * 3, replace(hot, stop=("<|user|>", "1", "2")))
    ends = {rollout.completion_ids[-1] for rollout in rollouts if rollout.stop is StopReason.STOP}
    allowed = {tokenizer.convert_tokens_to_ids(token) for token in ("<|end|>", "<|user|>", "1", "2")}
    assert ends <= allowed
    user = tokenizer.convert_tokens_to_ids("<|user|>")
    assert all(user not in rollout.completion_ids[:-1] for rollout in rollouts)


def of_changed_model(spec: EngineSpec, folder: Path, **generation: Any) -> Engine:
    """A Transformers engine on a copy of the model whose generation_config.json says something else."""
    shutil.copytree(spec.place.model, folder)
    file = folder / "generation_config.json"
    settings = {name: value for name, value in (json.loads(file.read_text()) | generation).items() if value is not None}
    file.write_text(json.dumps(settings))
    sampler = TransformersSamplerConfig(completions_per_batch=8)
    return build_engine(replace(spec, sampler=sampler, place=replace(spec.place, model=folder)))


@pytest.mark.parametrize(
    "generation",
    [
        {"repetition_penalty": 1.3},
        {"min_p": 0.3},
        {"no_repeat_ngram_size": 2},
        {"top_k": 3, "top_p": 0.5, "temperature": 0.1},
        {"suppress_tokens": [25, 26, 27], "typical_p": 0.5, "epsilon_cutoff": 0.1, "max_new_tokens": 2},
    ],
    ids=str,
)
def test_defaults_of_the_model_do_not_change_what_is_sampled(
    spec: EngineSpec, tiny_model: Path, requests: list[Request], tmp_path: Path, generation: dict[str, Any]
) -> None:
    rollouts = sample(of_changed_model(spec, tmp_path / "model", **generation), requests)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert largest_difference(model, rollouts) < 1e-4
    assert max(len(rollout.completion_ids) for rollout in rollouts) > 2


@pytest.mark.parametrize("ends", [None, 9, [9, 8]], ids=str)
def test_the_tokenizers_end_ends_a_completion_whatever_the_model_says(
    spec: EngineSpec, requests: list[Request], tmp_path: Path, ends: Any
) -> None:
    rollouts = sample(of_changed_model(spec, tmp_path / "model", eos_token_id=ends), requests, GREEDY)
    assert any(rollout.completion_ids[-1] == 2 for rollout in rollouts)
    allowed = {2, *(ends if isinstance(ends, list) else [ends])}
    for rollout in rollouts:
        assert not allowed & set(rollout.completion_ids[:-1])
        assert (rollout.completion_ids[-1] in allowed) is (rollout.stop is StopReason.STOP)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_completion_holds(
    engines: Callable[[str], Engine], kind: str, requests: list[Request], tokenizer: Any
) -> None:
    rollouts = sample(engines(kind), requests)
    assert [(rollout.task_id, rollout.index) for rollout in rollouts] == [(r.task_id, r.index) for r in requests]
    for request, rollout in zip(requests, rollouts, strict=True):
        assert rollout.prompt_ids == request.prompt_ids
        assert len(rollout.completion_ids) <= OPTIONS.max_completion_tokens
        assert all(value <= 0 for value in rollout.logprobs)
        ends = [position for position, token in enumerate(rollout.completion_ids) if token == tokenizer.eos_token_id]
        if rollout.stop is StopReason.STOP:
            assert ends == [len(rollout.completion_ids) - 1]
        else:
            assert (rollout.stop, ends) == (StopReason.LENGTH, [])
            assert len(rollout.completion_ids) == OPTIONS.max_completion_tokens
        assert rollout.text == tokenizer.decode(rollout.completion_ids, skip_special_tokens=True)
        assert not [token for token in tokenizer.all_special_tokens if token in rollout.text]


def test_the_end_is_sampled_like_any_other_token(
    engines: Callable[[str], Engine], requests: list[Request], tokenizer: Any
) -> None:
    """With enough room, some completions end themselves, and both engines say so in the same way."""
    for kind in KINDS:
        many = [Request(task_id="t", index=index, prompt_ids=requests[0].prompt_ids, seed=index) for index in range(32)]
        rollouts = sample(engines(kind), many, SamplingOptions(temperature=1.0, max_completion_tokens=64))
        stopped = [rollout for rollout in rollouts if rollout.stop is StopReason.STOP]
        assert stopped, f"{kind}: none of 32 completions ended itself"
        assert {rollout.completion_ids[-1] for rollout in stopped} == {tokenizer.eos_token_id}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_completion(
    engines: Callable[[str], Engine], kind: str, requests: list[Request]
) -> None:
    first, again = (sample(engines(kind), requests) for _ in range(2))
    assert num_different(again, first) <= 1
    assert len({rollout.completion_ids for rollout in first}) > len(QUESTIONS)  # other seeds give others


def test_a_completion_does_not_depend_on_its_neighbours(
    engines: Callable[[str], Engine], requests: list[Request]
) -> None:
    engine = engines("vllm")
    together = {(rollout.task_id, rollout.index): rollout for rollout in sample(engine, requests)}
    alone = [rollout for request in requests for rollout in sample(engine, [request])]
    assert num_different(alone, [together[rollout.task_id, rollout.index] for rollout in alone]) <= 1


def test_with_transformers_neighbours_change_no_bit(engines: Callable[[str], Engine], requests: list[Request]) -> None:
    engine = engines("transformers")
    shape = BatchShape(num_completions=3, num_prompt_tokens=max(len(request.prompt_ids) for request in requests))
    options = replace(OPTIONS, shape=shape)
    together = sample(engine, requests, options)
    alone = [rollout for request in requests for rollout in sample(engine, [request], options)]
    mixed = sample(engine, [*requests[1::2], *requests[-2::-2]], options)
    assert len({len(request.prompt_ids) for request in requests[:3]}) == 2
    assert together == alone == mixed


def test_with_transformers_adapters_that_come_and_go_change_no_bit_of_the_base_model(
    spec: EngineSpec, adapters: list[tuple[Any, Adapter]], requests: list[Request]
) -> None:
    """Trials share an engine: one samples from the base model when another has loaded a policy, or has ended."""
    engine = build_engine(replace(spec, sampler=TransformersSamplerConfig(), num_runs=2))

    def logprobs() -> list[tuple[float, ...]]:
        engine.add(0, requests, OPTIONS, spec.base)
        rollouts = []
        while engine.has_unfinished:
            rollouts += [rollout for _, rollout in engine.step()]
        return [rollout.logprobs for rollout in rollouts]

    before = logprobs()
    for _, adapter in adapters[:2]:
        assert engine.load(adapter, run=1).problems == ()
        assert logprobs() == before
        engine.forget(1)
        assert logprobs() == before


def test_vllm_lets_completions_leave_one_by_one(engines: Callable[[str], Engine], requests: list[Request]) -> None:
    many = [Request(task_id="t", index=index, prompt_ids=requests[0].prompt_ids, seed=index) for index in range(16)]
    batches = batches_of(engines("vllm"), many, SamplingOptions(temperature=1.0, max_completion_tokens=64))
    assert sum(map(len, batches)) == 16
    assert len({len(rollout.completion_ids) for batch in batches for rollout in batch}) > 1
    assert len(batches) > 1
    lengths = [len(rollout.completion_ids) for batch in batches for rollout in batch]
    assert lengths == sorted(lengths)  # all began together, so the shortest leaves first


def test_transformers_goes_batch_by_batch(engines: Callable[[str], Engine], requests: list[Request]) -> None:
    batches = batches_of(engines("transformers"), requests, OPTIONS)
    assert [len(batch) for batch in batches] == [3, 3, 2]


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_that_is_given_up_leaves_the_engine_usable(
    engines: Callable[[str], Engine], kind: str, requests: list[Request]
) -> None:
    engine = engines(kind)
    expected = sample(engine, requests)
    engine.add(1, requests, OPTIONS, engine.policies[-1])
    engine.add(2, requests, OPTIONS, engine.policies[-1])
    engine.step()
    engine.abort(1)
    others = []
    while engine.has_unfinished:
        others += engine.step()
    assert {stream for stream, _ in others} == {2}, "the other stream goes on, and only that one"
    again = sample(engine, requests)
    assert num_different(again, expected) <= 1


def test_temperature_zero_is_greedy_and_both_engines_agree(
    engines: Callable[[str], Engine], requests: list[Request], adapters: list[tuple[Any, Adapter]]
) -> None:
    model, adapter = adapters[1]
    ids = []
    for kind in KINDS:
        engine = engines(kind)
        engine.load(adapter)
        rollouts = sample(engine, requests, GREEDY)
        for rollout in rollouts:
            sequence = torch.tensor([[*rollout.prompt_ids, *rollout.completion_ids]])
            with torch.no_grad():
                best = model(sequence).logits[0, len(rollout.prompt_ids) - 1 : -1].topk(2)
            margin = (best.values[:, 0] - best.values[:, 1]).min().item()
            assert margin > 10 * ROUNDING, "no token may be decided by rounding"
            assert rollout.completion_ids == tuple(best.indices[:, 0].tolist())
        ids.append([rollout.completion_ids for rollout in rollouts])
    assert ids[0] == ids[1]
