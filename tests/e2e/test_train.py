"""Whole runs, started as a user starts them: in a process of their own, on the command line.

Nothing is waited for by the clock: a test waits for lines of output, and a deadline only ends what hangs.
"""

from __future__ import annotations

import json
import re
import shlex
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from rft.config.schema import RunConfig
from rft.models.adapter_folder import load_adapter
from rft.run_folder.find_checkpoint import last_checkpoint
from rft.run_folder.recorder import read_metrics, read_rollouts

pytestmark = pytest.mark.e2e

TASKS = Path(__file__).parents[2] / "rft" / "embedded" / "tasks" / "chain_sum"
README = Path(__file__).parents[2] / "README.md"
PNG = b"\x89PNG\r\n\x1a\n"

NUM_TEST = 12

Rft = Callable[..., Any]


def test_a_run_ends_well(trained: Any) -> None:
    assert trained.code == 0
    assert trained.orphans == []
    assert "finished after 3 steps" in trained.output
    assert "Traceback" not in trained.output


def test_the_summary_holds_what_scripts_read(trained: Any) -> None:
    summary = trained.summary
    assert (summary["status"], summary["steps"], summary["drops"]) == ("finished", 3, {})
    assert {"start", "sample_and_grade", "learn", "sync", "evaluate", "checkpoint"} <= summary["time_s"].keys()
    assert 0 < sum(summary["time_s"].values()) <= summary["wall_s"]
    assert all(0 <= summary["reward"][name] <= 1 for name in ("first", "last"))
    measured = {name: summary["eval"][name] for name in ("before", "after", "difference")}
    assert all(set(value) == {"mean", "ci95", "n", "caveat"} and value["n"] == NUM_TEST for value in measured.values())
    difference = measured["after"]["mean"] - measured["before"]["mean"]
    assert measured["difference"]["mean"] == pytest.approx(difference)


def test_one_line_a_step(trained: Any) -> None:
    lines = read_metrics(trained.folder)
    assert [line["step"] for line in lines] == [0, 1, 2, 3]
    assert [line["policy"]["version"] for line in lines] == [0, 1, 2, 3]
    assert len({line["policy"]["fingerprint"] for line in lines}) == 4
    assert "before/mean" in lines[0]["metrics"]
    assert [("eval/mean" in line["metrics"]) for line in lines] == [False, False, True, False]
    for line in lines[1:]:
        assert {"reward/mean", "score/correct", "learner/loss", "groups/informative_share"} <= line["metrics"].keys()
        # The learner finds the sampled tokens as likely as the sampler did: it samples the policy that is trained.
        assert line["metrics"]["learner/sampling/sampling_logp_difference/max"] < 1e-3


def test_every_rollout_is_on_disk(trained: Any) -> None:
    lines = list(read_rollouts(trained.folder))
    counts: dict[tuple[str, int], int] = {}
    for line in lines:
        counts[line["phase"], line["step"]] = counts.get((line["phase"], line["step"]), 0) + 1
    assert counts == {
        ("before", 0): 24,  # 12 tasks x 2
        ("train", 1): 16,  # 4 prompts x 4
        ("train", 2): 16,
        ("train", 3): 16,
        ("validation", 2): 12,  # 6 tasks x 2
        ("after", 3): 24,
    }
    # Sampled in step n by what step n - 1 has learned.
    versions = {(line["phase"], line["step"]): line["policy"]["version"] for line in lines}
    assert versions == {
        ("before", 0): 0,
        ("train", 1): 0,
        ("train", 2): 1,
        ("train", 3): 2,
        ("validation", 2): 2,
        ("after", 3): 3,
    }
    means = [line["reward"] for line in lines if line["phase"] == "train" and line["step"] == 1]
    assert read_metrics(trained.folder)[1]["metrics"]["reward/mean"] == pytest.approx(sum(means) / 16)


def test_the_adapter_is_what_the_last_step_made(trained: Any) -> None:
    import hashlib

    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    adapter = trained.folder / "adapter"
    tensors = (adapter / "adapter_model.safetensors").read_bytes()
    last = read_metrics(trained.folder)[-1]["policy"]["fingerprint"]
    assert hashlib.sha256(tensors).hexdigest()[:16] == last
    name = json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"]
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(name), adapter).eval()
    ids = torch.arange(5, 25).unsqueeze(0)
    with torch.no_grad():
        tuned = model(ids).logits
        with model.disable_adapter():
            assert (model(ids).logits - tuned).abs().max() > 1e-4
    card = (adapter / "README.md").read_text()
    assert card.startswith("---\n")
    assert "reasoning_gym" in card
    assert list((trained.folder / "checkpoints").rglob("README.md")) == []


def test_the_code_of_the_card_runs_from_any_folder(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    card = (trained.folder / "adapter" / "README.md").read_text()
    code = next(block for block in re.findall(r"```python\n(.*?)\n```", card, re.DOTALL) if "peft" in block)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "card.py", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.strip()


def test_what_else_a_run_leaves(trained: Any) -> None:
    plots = list((trained.folder / "plots").iterdir())
    assert plots
    assert all(plot.read_bytes().startswith(PNG) for plot in plots)
    checkpoint, step = last_checkpoint(trained.folder)
    assert (checkpoint.name, step) == ("checkpoint-3", 3)
    assert (trained.folder / "checkpoints" / "checkpoint-2" / "complete.json").exists()
    assert list((trained.folder / "tensorboard").glob("events*"))
    manifest = json.loads((trained.folder / "manifest.json").read_text())
    assert manifest["seed"] == 0
    assert manifest["audit"] == {"graders": "never audited", "policy": "refuse"}
    assert "reasoning_gym" in json.dumps(manifest)
    import yaml

    config = RunConfig.model_validate(yaml.safe_load((trained.folder / "config.yaml").read_text()))
    assert config.loop.steps == 3


DEADLY = '''"""Advantages relative to the group; the learner is killed in its second step, and again in its third."""

import os
import signal
from pathlib import Path

from rft.learning.advantages import group_relative

steps = 0


def deadly(rewards_n, group_size):
    global steps
    if len(rewards_n) == 16:  # a step, not the check before the start
        steps += 1
        mark = Path(__file__).with_name(f"killed in step {steps} of a process")
        if steps > 1 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return group_relative(rewards_n, group_size)
'''
KILLED = ("learner.advantage=deadly.py:deadly", "learner.scale_rewards=none")
"""The function scales rewards itself, like `learner.scale_rewards=group`."""


def results(run: Path) -> tuple[bytes, list[str], list[tuple[Any, ...]]]:
    """The adapter, the fingerprint of every policy, and the completions with their rewards."""
    keys = ("phase", "step", "task_id", "index", "completion", "reward")
    rollouts = sorted(tuple(map(line.get, keys)) for line in read_rollouts(run))
    fingerprints = [line["policy"]["fingerprint"] for line in read_metrics(run)]
    return (run / "adapter" / "adapter_model.safetensors").read_bytes(), fingerprints, rollouts


@pytest.mark.full  # tests/chaos/test_real_ray.py kills one once
def test_a_learner_that_is_killed_twice_changes_nothing(
    folder: Path, trained: Any, three_steps: tuple[str, ...], rft: Rft
) -> None:
    (folder / "deadly.py").write_text(DEADLY)
    killed = rft("train", *three_steps, *KILLED, "output_dir=run", cwd=folder)
    assert (killed.code, killed.orphans) == (0, [])
    # From the base model, so that step 1 is taken again; then from the checkpoint of step 2.
    assert killed.summary["recovery"] == {"learner_restarts": 2, "redone_steps": 1}
    assert results(killed.folder) == results(trained.folder)
    assert [path.name for path in (killed.folder / "tokens").iterdir()] == ["step-000003.safetensors"]


def command_of_readme(name: str) -> list[str]:
    """The line of README.md that begins with `rft <name>`, for the run of these tests."""
    [line] = [line for line in README.read_text().splitlines() if line.startswith(f"rft {name} ")]
    return [word.replace("runs/quickstart/<time>", "run") for word in shlex.split(line)[1:]]


@pytest.mark.parametrize("sampler", ["transformers", pytest.param("vllm", marks=pytest.mark.full)])
def test_sample_with_the_adapter_as_the_readme_says(trained: Any, rft: Rft, rft_in_process: Rft, sampler: str) -> None:
    run = rft if sampler == "vllm" else rft_in_process
    asked = run(*command_of_readme("sample"), "--num", "2", "--sampler", sampler, cwd=trained.folder.parent)
    assert (asked.code, asked.orphans) == (0, [])
    assert len([line for line in asked.output.splitlines() if re.search(r"\d", line)]) >= 2
    assert "Traceback" not in asked.output


@pytest.mark.full
def test_measure_it_on_another_skill_as_the_readme_says(trained: Any, rft: Rft) -> None:
    words = (*command_of_readme("evaluate"), "evaluation.completions_per_task=1", "output_dir=skill")
    measured = rft(*words, cwd=trained.folder.parent, output_dir="skill")
    assert (measured.code, measured.orphans) == (0, [])
    assert measured.summary["n"] == 250


SECRET, PHRASE, WORD = "sk-planted-0123456789", "ghp_0123456789abcdefghijABCDEFGHIJ0123", "hunter2-of-the-environment"
"""Secrets under a telling name, under a harmless name but of a known form, and from the environment."""
PLANTED = {"PLANTED_WORD": WORD}
OWN_GRADERS = (
    "graders.concise.use=my_graders.py:concise",
    "graders.concise.weight=0.1",
    "graders.keyed.use=my_graders.py:keyed",
    f"graders.keyed.api_key={SECRET}",
    f"graders.keyed.phrase={PHRASE}",
    "graders.keyed.pwd=${oc.env:PLANTED_WORD}",
    "grading.max_fault_share=1",
    "loop.steps=2",
    "loop.checkpoint_every_steps=1",
    "evaluation.every_steps=null",
    "data.validation=null",
)
FAKES = ("sampler=fake", "sampler.script=[one,four,seven,eleven]", "learner=fake")
"""Completions of an odd and of an even number of characters."""
TRAINED = ("sampler=transformers",)
TRAINED_ON_OWN = (*OWN_GRADERS, *TRAINED, "data.test=null")


@pytest.fixture(scope="module")
def ray_folder() -> Iterator[Path]:
    """Where Ray of a run keeps its logs. A short path, because sockets lie there, too."""
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        yield Path(folder)


def write_graders(folder: Path) -> Path:
    """Two graders of one's own in an empty folder: one has a key, and tells it at times."""
    (folder / "my_graders.py").write_text(
        '"""Graders of my own."""\n\n\ndef concise(completion):\n'
        '    """1 for an empty completion, 0 from 40 characters on."""\n'
        "    return max(0.0, 1 - len(completion) / 40)\n\n\n"
        "def keyed(completion, api_key, phrase, pwd):\n"
        "    print(api_key, phrase, pwd)\n"
        "    if len(completion) % 2:\n        raise ValueError(f'{api_key} {phrase} {pwd}')\n    return 1\n"
    )
    (folder / "test.jsonl").write_text("".join((TASKS / "test.jsonl").read_text().splitlines(keepends=True)[:NUM_TEST]))
    return folder


@pytest.fixture(scope="module", params=["fake", pytest.param("trained", marks=pytest.mark.full)])
def own_graders(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    three_steps: tuple[str, ...],
    rft: Rft,
    ray_folder: Path,
) -> Any:
    """Two steps with graders of one's own."""
    words = (*OWN_GRADERS, *{"fake": FAKES, "trained": TRAINED}[request.param], "output_dir=run")
    environment = PLANTED | {"RAY_TMPDIR": str(ray_folder)}
    folder = write_graders(tmp_path_factory.mktemp("own-graders"))
    return rft("train", *three_steps, *words, cwd=folder, environment=environment)


def test_graders_of_ones_own(own_graders: Any) -> None:
    assert (own_graders.code, own_graders.orphans) == (0, [])
    assert own_graders.summary["status"] == "finished"
    lines = list(read_rollouts(own_graders.folder, "train"))
    assert len(lines) == 32
    assert {len(line["completion"]) % 2 for line in lines} == {0, 1}
    for line in lines:
        concise = max(0.0, 1 - len(line["completion"]) / 40)
        assert line["scores"]["concise"]["value"] == pytest.approx(concise)
        if len(line["completion"]) % 2:
            assert (line["scores"]["keyed"]["value"], line["reward"]) == (None, None)
        else:
            assert line["reward"] == pytest.approx(line["scores"]["correct"]["value"] + 0.1 * concise + 1)


def test_planted_secrets_are_in_no_file_no_log_and_no_process_argument(own_graders: Any, ray_folder: Path) -> None:
    files = [path for path in own_graders.folder.rglob("*") if path.is_file()]
    logs = [path for path in ray_folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(logs) > 5 and len(own_graders.commands) > 3
    assert "grader_output.txt" in {path.name for path in files}
    assert {"config.yaml", "manifest.json", "README.md", "rollouts.jsonl"} <= {path.name for path in files}
    assert "ValueError: <redacted>" in (own_graders.folder / "rollouts.jsonl").read_text()
    for secret in (SECRET, PHRASE, WORD):
        assert [path for path in [*files, *logs] if secret.encode() in path.read_bytes()] == []
        assert secret not in own_graders.output
        assert [command for command in own_graders.commands if secret in command] == []  # besides the typed one


@pytest.fixture(scope="module")
def one_and_two_ranks(tmp_path_factory: pytest.TempPathFactory, three_steps: tuple[str, ...], rft: Rft) -> list[Any]:
    """The same run with a learner of one process, and of two ranks."""
    folder = write_graders(tmp_path_factory.mktemp("ranks"))
    return [
        rft(
            *("train", *three_steps, *TRAINED_ON_OWN, f"learner.num_workers={number}", f"output_dir={number}"),
            cwd=folder,
            output_dir=str(number),
            environment=PLANTED,
        )
        for number in (1, 2)
    ]


@pytest.mark.full
def test_two_ranks_learn_what_one_learns(one_and_two_ranks: list[Any]) -> None:
    one_rank, two_ranks = one_and_two_ranks
    assert (two_ranks.code, two_ranks.orphans) == (0, [])
    alone, together = read_metrics(one_rank.folder)[1:], read_metrics(two_ranks.folder)[1:]
    assert [line["step"] for line in together] == [1, 2]
    names = ("reward/mean", "learner/loss", "learner/grad_norm", "learner/entropy", "learner/completions/learned_from")
    for one, two in zip(alone, together, strict=True):
        expected = {name: one["metrics"][name] for name in names}
        assert {name: two["metrics"][name] for name in names} == pytest.approx(expected, rel=1e-2, abs=1e-4)
    adapters = [load_adapter(run.folder) for run in one_and_two_ranks]
    one, two = (safetensors.numpy.load(adapter.tensors) for adapter in adapters)
    # Two steps of Adam, each of the learning rate, 1e-3. Where a gradient is nearly 0, its sign is chance, so that a
    # weight may end two steps up here and two steps down there; nearly all of them must not.
    differences = np.concatenate([np.abs(two[name] - one[name]).ravel() for name in one])
    assert differences.max() <= 4.1e-3
    assert np.quantile(differences, 0.99) < 1e-4


@pytest.mark.full
def test_a_rank_that_is_killed_changes_nothing(
    one_and_two_ranks: list[Any], three_steps: tuple[str, ...], rft: Rft
) -> None:
    two_ranks = one_and_two_ranks[1]
    folder = two_ranks.folder.parent
    (folder / "deadly.py").write_text(DEADLY)
    words = (*three_steps, *TRAINED_ON_OWN, "learner.num_workers=2", *KILLED, "output_dir=killed")
    killed = rft("train", *words, cwd=folder, output_dir="killed", environment=PLANTED)
    assert (killed.code, killed.orphans) == (0, [])
    assert killed.summary["recovery"] == {"learner_restarts": 1}
    assert re.search(r"warning: rank [01] of 2 of the learner .* is lost: its process ended", killed.output)
    assert results(killed.folder) == results(two_ranks.folder)
