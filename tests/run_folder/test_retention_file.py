"""retention.json, from the measurements in a run folder and from those of its parents."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from rft.config import RunConfig
from rft.config.commands import load_training
from rft.run_folder.recorder import Recorder
from rft.run_folder.retention_file import keep_stages_of, retention_of
from rft.types import GradedGroup, Policy

MakeGroup = Callable[..., GradedGroup]
FAKE = (
    "experiment=quickstart",
    "sampler=fake",
    "learner=fake",
    "logging=none",
    "data=families",
    "graders.correct.use=exact",
)


def config(folder: Path, trained: str, *words: str) -> RunConfig:
    """A run that trains one family and measures all."""
    others = [f"data.mixture.{name}.older=true" for name in ("chain_sum", "gcd", "count_bits") if name != trained]
    return load_training([*FAKE, "data.mixture.spell_backward.older=true", *others, *words], str(folder))


def record(
    folder: Path,
    make_group: MakeGroup,
    phase: str,
    policy: Policy,
    scores: Mapping[str, list[float]],
) -> None:
    groups = [
        make_group([score], f"{family}/{number}", policy=policy)
        for family, of_family in scores.items()
        for number, score in enumerate(of_family)
    ]
    folder.mkdir(exist_ok=True)
    Recorder(folder).rollouts(groups, step=0, phase=phase)  # type: ignore[arg-type]


@pytest.fixture
def chain(tmp_path: Path, make_group: MakeGroup) -> tuple[Path, Path]:
    """A run that trains sums, and one that starts from it and trains gcd."""
    first, second = tmp_path / "01-sums", tmp_path / "02-gcd"
    base, sums = Policy(version=0, fingerprint="base"), Policy(version=9, fingerprint="sums")
    record(first, make_group, "before", base, {"chain_sum": [0.0, 0.0], "gcd": [0.0, 1.0]})
    record(first, make_group, "after", sums, {"chain_sum": [1.0, 1.0], "gcd": [0.0, 1.0]})
    retention_of(first, config(first, "chain_sum"))
    (first / "config.yaml").write_text("{}")
    start, gcd = replace(sums, version=0), Policy(version=9, fingerprint="gcd")
    record(second, make_group, "before", start, {"chain_sum": [1.0, 1.0], "gcd": [0.0, 1.0]})
    record(second, make_group, "after", gcd, {"chain_sum": [1.0, 0.0], "gcd": [1.0, 1.0]})
    return first, second


def test_a_run_alone_compares_after_with_before(chain: tuple[Path, Path]) -> None:
    _, second = chain
    result = retention_of(second, config(second, "gcd", "evaluation.guard={chain_sum: 0.2, gcd: 0.2}"))
    assert result is not None
    assert result["stages"] == ["before", "02-gcd"]
    assert result["families"]["chain_sum"]["scores"] == [1.0, 0.5]
    assert result["families"]["chain_sum"]["forgetting"]["mean"] == 0.5
    assert result["families"]["gcd"]["forgetting"] is None  # the run trains it
    guard = result["guard"]
    assert (guard["chain_sum"]["drop"]["mean"], guard["chain_sum"]["is_exceeded"]) == (0.5, True)
    assert (guard["gcd"]["drop"]["mean"], guard["gcd"]["is_exceeded"]) == (-0.5, False)


def test_a_replayed_family_can_be_forgotten(chain: tuple[Path, Path]) -> None:
    _, second = chain
    result = retention_of(second, config(second, "gcd", "data.replay=0.3"))
    assert result is not None
    assert result["families"]["chain_sum"]["trained_in"] is None
    assert result["families"]["chain_sum"]["forgetting"]["mean"] == 0.5
    assert result["forgetting"]["mean"] == 0.5


def test_a_run_takes_over_the_stages_of_its_parent(chain: tuple[Path, Path]) -> None:
    first, second = chain
    keep_stages_of(str(first), second)
    for file in first.iterdir():
        file.unlink()  # the parent's folder may disappear
    result = retention_of(second, config(second, "gcd"))
    assert result is not None
    assert result["stages"] == ["before", "01-sums", "02-gcd"]
    sums = result["families"]["chain_sum"]
    assert (sums["trained_in"], sums["scores"]) == ("01-sums", [0.0, 1.0, 0.5])
    assert (sums["backward_transfer"]["mean"], sums["forgetting"]["mean"]) == (-0.5, 0.5)
    assert [stage["name"] for stage in json.loads((second / "retention.json").read_text())["stages"]] == result[
        "stages"
    ]


def test_a_start_from_a_checkpoint_is_a_stage_of_its_own(
    chain: tuple[Path, Path], tmp_path: Path, make_group: MakeGroup
) -> None:
    first, _ = chain
    folder = tmp_path / "from checkpoint"
    record(folder, make_group, "before", Policy(version=0, fingerprint="step 5"), {"gcd": [0.0, 0.0]})
    record(folder, make_group, "after", Policy(version=9, fingerprint="x"), {"gcd": [1.0, 1.0]})
    keep_stages_of(str(first), folder)
    result = retention_of(folder, config(folder, "gcd"))
    assert result is not None
    assert result["stages"] == ["before", "start of from checkpoint", "from checkpoint"]


def test_other_settings_cannot_be_compared(chain: tuple[Path, Path]) -> None:
    first, second = chain
    keep_stages_of(str(first), second)
    result = retention_of(second, config(second, "gcd", "evaluation.temperature=0.5"))
    assert result is not None
    assert result["families"]["chain_sum"]["scores"] == [None, 1.0, 0.5]
    assert result["left_out"][0].startswith("chain_sum after before: measured on other tasks")


def test_a_run_without_a_mixture_or_without_a_measurement_has_none(tmp_path: Path) -> None:
    assert retention_of(tmp_path, config(tmp_path, "gcd")) is None
    plain = load_training(["experiment=quickstart", "logging=none"], str(tmp_path))
    assert retention_of(tmp_path, plain) is None
