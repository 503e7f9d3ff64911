"""The engines of a teacher: what they load, and when they start."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rft.cluster import Shares
from rft.config.commands import load_training
from rft.models.base_model import EMBEDDED_MODELS
from rft.run.teachers.engines import RunTeachers, opened_teachers
from rft.run.teachers.read_teachers import Teacher
from rft.sampling.engines import Engines
from rft.sampling.spec import EnginePlace
from rft.types import Adapter, Policy, Publication, Task

TINY = EMBEDDED_MODELS["embedded:tiny"]
WORDS = ("experiment=quickstart", "learner=distill", "teacher.path=embedded:tiny", "teacher.num_actors=2")
ADAPTER = Adapter(
    policy=Policy(version=1, fingerprint="expert"), config={"r": 4, "rank_pattern": {"x": 6}}, tensors=b""
)
TEACHER = Teacher(
    model=TINY,
    name="embedded:tiny",
    base=Policy(version=0, fingerprint="of teacher"),
    adapter=ADAPTER,
    context_tokens=320,
)
PLACE: Any = SimpleNamespace(
    shares=Shares(sampler_threads=3, learner_threads=2, sampler_gpus=0, learner_gpus=0),
    teacher_models=(Path("/node/models/of teacher"),),
    teacher_options=({"num_cpus": 1}, {"num_cpus": 1}),
    teacher_nodes=(),
    prepare_teachers=(),
)


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Inputs with the teacher; engines get no process."""
    monkeypatch.setattr(Engines, "_create", lambda self, place: object())
    return SimpleNamespace(teachers=(TEACHER,), longest_prompt_tokens=72, renderer=SimpleNamespace(render=None))


def opened(prepared: Any, place: Any = PLACE, *words: str) -> RunTeachers:
    run = load_training([*WORDS, *words], "/nowhere")

    async def job() -> RunTeachers:
        async with opened_teachers(run, prepared, place, print) as teachers:
            assert teachers is not None
            return teachers

    return asyncio.run(job())


def test_the_engines_load_the_teacher(prepared: Any) -> None:
    engines = (
        opened(prepared, PLACE, "sampler.max_completion_tokens=40", "loop.completions_per_prompt=4").all[0].engines
    )
    spec = engines.spec
    assert [sampler.name for sampler in engines.samplers] == ["teacher 0", "teacher 1"]
    assert spec.place == EnginePlace(model=Path("/node/models/of teacher"), num_threads=3, num_gpus=0.0)
    assert (spec.base, spec.max_lora_rank, spec.serve) == (TEACHER.base, 6, "merged")
    # vLLM samples a token after the sequence that it scores.
    assert (spec.max_context_tokens, spec.max_requests, spec.canaries) == (72 + 40 + 1, 4, ())
    assert spec.sampler.num_actors == 2


def test_a_run_without_a_teacher_starts_no_engines(prepared: Any) -> None:
    prepared.teachers = ()

    async def job() -> None:
        async with opened_teachers(
            load_training(["experiment=quickstart"], "/nowhere"), prepared, PLACE, print
        ) as none:
            assert none is None

    asyncio.run(job())


@pytest.mark.parametrize(("gpus", "is_alone"), [(0.5, True), (1.0, False), (0.0, False)])
def test_engines_on_one_gpu_start_one_after_the_other(
    prepared: Any, monkeypatch: pytest.MonkeyPatch, gpus: float, is_alone: bool
) -> None:
    place = SimpleNamespace(**vars(PLACE) | {"shares": replace(PLACE.shares, teacher_gpus=gpus)})
    teachers = opened(prepared, place)
    teacher = teachers.all[0]
    story: list[str] = []

    def begins_and_ends(name: str) -> Any:
        async def call(*_: Any) -> None:
            story.append(f"begin {name}")
            await asyncio.sleep(0)
            story.append(f"end {name}")

        return call

    loaded: list[Publication] = []

    async def load(publication: Publication) -> None:
        loaded.append(publication)

    monkeypatch.setattr(teacher.engines, "start", begins_and_ends("teacher"))
    monkeypatch.setattr(teacher.fleet, "load", load)
    asyncio.run(teachers.start(begins_and_ends("samplers")))
    assert (story.index("end teacher") < story.index("begin samplers")) is is_alone
    assert [publication.weights for publication in loaded] == [ADAPTER]


def test_each_family_has_its_teacher(prepared: Any, make_task: Callable[..., Task]) -> None:
    sums, gcd = (replace(TEACHER, adapter=None, families=families) for families in (("sums", "products"), ("gcd",)))
    prepared.teachers = (sums, gcd)
    place = SimpleNamespace(
        **vars(PLACE) | {"teacher_models": (Path("/sums"), Path("/gcd")), "teacher_options": ({"num_cpus": 1},) * 4}
    )
    teachers = opened(prepared, place)
    names = [[sampler.name for sampler in one.engines.samplers] for one in teachers.all]
    assert names == [
        ["teacher of sums and products 0", "teacher of sums and products 1"],
        ["teacher of gcd 0", "teacher of gcd 1"],
    ]
    assert [one.engines.spec.place.model for one in teachers.all] == [Path("/sums"), Path("/gcd")]
    of_sums, of_gcd = (one.fleet for one in teachers.all)
    found = [teachers.panel._teacher_of(replace(make_task(), family=name)) for name in ("sums", "products", "gcd")]
    assert found == [of_sums, of_sums, of_gcd]
