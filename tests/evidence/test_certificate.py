"""Certificates: what they list, that every change of it is found, and that a stranger's certificate does no harm."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.numpy
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from rft.api.certify import certify
from rft.api.verify import _refuse_other_files, measure_again, verify
from rft.config import EvaluateConfig, RunConfig
from rft.config.commands import load_training
from rft.errors import UsageError
from rft.evidence.certificate.envelope import TrustedKey, canonical, private_key, public_key, signed
from rft.evidence.certificate.materials import find_material
from rft.evidence.certificate.statement import Statement, facts_of, read_config
from rft.evidence.certificate.verification import verify_result
from rft.metrics.intervals import Estimate, estimate
from rft.models.base_model import fingerprint
from rft.run.inputs.fitting import Reuse
from rft.run.inputs.task_sets import load_tasks
from rft.run_folder.provenance import manifest
from rft.run_folder.recorder import Recorder
from rft.run_folder.results import summary_of
from rft.types import Grade, GradedGroup, Policy, Rollout, Score, Status, StepReport, StopReason, Task
from tests.conftest import EMBEDDED
from tests.evidence.sigstore_stub import Stub

Rft = Callable[..., tuple[int, str, str]]
SUBJECT = ("adapter_config.json", "adapter_model.safetensors")
RUN_FILES = tuple(
    f"run/{name}.json{'l' * is_lines}"
    for name, is_lines in (("manifest", 0), ("metrics", 1), ("summary", 0), ("retention", 0), ("rollouts", 1))
)
BASE = tuple(
    f"base_model/{name}"
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
)
OTHERS = (
    *("run/config.yaml", "run/feasibility.json", "data/train/train.jsonl", "data/train/card.json"),
    *("data/test/test.jsonl", "graders/own", "graders/both", "graders/both/short"),
)
MATERIALS = (*RUN_FILES, *BASE, *OTHERS)
FACTS = (
    *("run", "base_model", "start", "teachers", "data", "sources", "graders", "environment", "audit", "feasibility"),
    *("comparison", "forgetting", "syncs", "seed", "versions", "platform", "git"),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with keys, tasks, a grader, a base model, and `run`, which ended."""
    place = tmp_path_factory.mktemp("certificate")
    for name in ("key", "other"):
        key = Ed25519PrivateKey.generate()
        (place / f"{name}.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (place / f"{name}.pub.pem").write_bytes(public)
    train = "".join(json.dumps({"prompt": f"{n}+1=", "answer": str(n + 1)}) + "\n" for n in range(8)).encode()
    (place / "train.jsonl").write_bytes(train)
    card = {"files": {"train.jsonl": {"sha256": hashlib.sha256(train).hexdigest()}}, "licence": "CC0-1.0"}
    (place / "card.json").write_text(json.dumps(card))
    tests = [json.dumps({"prompt": f"{n}+2=", "answer": str(n + 2)}) for n in range(20)]
    (place / "test.jsonl").write_text("\n".join(tests))
    (place / "mine.py").write_text("def own(completion):\n    return float('3' in completion)\n")
    shutil.copytree(EMBEDDED, place / "base")
    _write_run(place)
    return place


def _config(place: Path) -> RunConfig:
    own = f"{place / 'mine.py'}:own"
    return load_training(
        [
            *(
                "sampler=fake",
                "learner=fake",
                "loop.steps=1",
                "loop.prompts_per_step=1",
                f"model.path={place / 'base'}",
            ),
            *(f"graders.own.use={own}", "graders.own.weight=1"),
            *(
                f"data.train={place / 'train.jsonl'}",
                f"data.test={place / 'test.jsonl'}",
                f"output_dir={place / 'run'}",
            ),
            *("graders.both.use=composite", "graders.both.weight=0", "graders.both.how=mean"),
            "graders.both.of.short={use: length, free_tokens: 5, max_tokens: 9}",
        ]
    )


def _write_run(place: Path) -> None:
    run, own = _config(place), f"{place / 'mine.py'}:own"
    tasks, _, _ = load_tasks(run, True, Reuse(), problems := [])
    assert tasks is not None, problems
    folder = place / "run"
    folder.mkdir()
    recorder = Recorder(folder)
    recorder.config(run.model_dump())
    code = {"own": (own, place / "mine.py"), "both": ("composite", Path("graders/composite.py").resolve())}
    facts = manifest(
        method="fake",
        seed=7,
        command=["rft", "train"],
        base_model={"path": str(place / "base"), "fingerprint": fingerprint(place / "base")},
        tasks={"train": (str(run.data.train), tasks.train), "test": (str(run.data.test), tasks.test)},
        graders={
            name: {"weight": 1.0, "source": use, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
            for name, (use, file) in code.items()
        },
        sandbox={},
    )
    recorder.document("manifest.json", json.dumps(facts | {"audit": {"graders": "passed", "policy": "refuse"}}))
    adapter = folder / "adapter"
    adapter.mkdir()
    weights = safetensors.numpy.save({"lora_A": np.ones((2, 3), np.float32)})
    (adapter / "adapter_model.safetensors").write_bytes(weights)
    (adapter / "adapter_config.json").write_text("{}")
    policy = Policy(version=1, fingerprint=hashlib.sha256(weights).hexdigest()[:16])
    recorder.metrics(StepReport(step=1, policy=policy, metrics={"sync/proved": 1.0}, drops={}, seconds={}))
    _write_rollouts(recorder, tasks.test)
    how = {"graders": run.graders, "families": {}, "evaluation": run.evaluation.model_dump()}
    recorder.summary(summary_of(folder, **how, status="finished", split="test", wall_s=1.0))
    recorder.json("retention.json", {"stages": []})
    recorder.json("feasibility.json", {"verdict": "go"})


def _write_rollouts(recorder: Recorder, tasks: list[Task]) -> None:
    """Before the run a quarter of the tasks is right, after it three quarters."""
    for phase, share in (("before", 4), ("after", 1)):
        groups = []
        for number, task in enumerate(tasks):
            reward = float(number % 4 == 0 if share == 4 else number % 4 != 0)
            rollout = Rollout(
                task_id=task.id, index=0, prompt_ids=(1,), completion_ids=(2,), logprobs=(-0.5,), text="3",
                stop=StopReason.STOP, policy=Policy(version=0, fingerprint="base"),
            )  # fmt: skip
            grade = Grade(scores={"own": Score(value=reward, status=Status.OK)}, reward=reward)
            groups.append(GradedGroup(task=task, rollouts=(rollout,), grades=(grade,)))
        recorder.rollouts(groups, step=0, phase=phase)


@pytest.fixture(scope="module")
def statement(place: Path) -> Statement:
    return certify(place / "run", place / "key.pem").statement


@pytest.fixture
def certificate(place: Path, statement: Statement) -> Iterator[Path]:
    """The signed certificate, as it was after the test."""
    file = place / "run" / "adapter" / "certificate.json"
    before = file.read_bytes()
    yield file
    file.write_bytes(before)


def test_the_envelope_is_readable_for_others(place: Path, certificate: Path, statement: Statement) -> None:
    envelope = json.loads(certificate.read_bytes())
    payload = base64.b64decode(envelope["payload"])
    [signature] = envelope["signatures"]
    by_hand = b"DSSEv1 28 application/vnd.in-toto+json " + str(len(payload)).encode() + b" " + payload
    public_key(place / "key.pub.pem").verify(base64.b64decode(signature["sig"]), by_hand)
    values = json.loads(payload)
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    assert values["_type"] == "https://in-toto.io/Statement/v1"
    assert {each["name"] for each in values["subject"]} == {*SUBJECT}
    assert payload == canonical(values)


def test_what_is_listed(statement: Statement, place: Path) -> None:
    assert {*statement.subject} == {*SUBJECT}
    assert {material.name for material in statement.materials} == {*MATERIALS}
    assert {*statement.facts} == {*FACTS}
    assert statement.checked == ("comparison", "weights", "base model", "graders", "tasks")
    facts = statement.facts
    # By hand: 5 of 20 tasks right before, the other 15 after.
    assert [facts["comparison"][name]["mean"] for name in ("before", "after", "difference")] == [0.25, 0.75, 0.5]
    assert facts["forgetting"] == {"limits": {}, "families": {}, "left_out": []}
    assert facts["syncs"] == {"all": 1, "proved": 1}
    assert facts["seed"] == 7
    assert facts["audit"]["graders"] == "passed"
    assert facts["feasibility"] == {"verdict": "go"}
    assert facts["data"]["train"]["card"]["licence"] == "CC0-1.0"


def test_forgetting_is_computed_from_the_rollouts(place: Path, tmp_path: Path, rft: Rft) -> None:
    run = tmp_path / "run"
    shutil.copytree(place / "run", run)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["data"]["mixture"], config["evaluation"]["guard"] = {"old": {"graders": ["own"]}}, {"old": 0.1}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    text = (run / "rollouts.jsonl").read_text().replace('"task_id": "', '"task_id": "old/')
    worse = text.replace('"before"', '"?"').replace('"after"', '"before"').replace('"?"', '"after"')
    (run / "rollouts.jsonl").write_text(worse)
    kept = {"max_drop": 0.1, "drop": estimate([0.0] * 20).to_json(), "is_exceeded": False}
    retention = {"guard": {"old": kept}, "left_out": ["guard of gone: not measured", "something else"]}
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps(summary | {"retention": retention}))
    own = (facts := facts_of(run)["forgetting"])["families"]["old"]
    assert (own["drop"]["mean"], own["drop"]["n"], own["is_exceeded"]) == (0.5, 20, True)  # by hand: 15 right, then 5
    assert (facts["limits"], facts["left_out"]) == ({"old": 0.1}, retention["left_out"][:1])
    _, _, err = rft("certify", str(run), f"key={place / 'key.pem'}")
    assert "summary.json: its forgetting is not that of the recorded rollouts; resume the run" in err
    _, out, _ = rft("compare", f"one={run}", f"other={run}")
    assert "note: one: guard of old: kept; drop +0.000" in out and "note: other: guard of gone: not measured" in out


def test_an_untouched_result_is_valid(place: Path, certificate: Path) -> None:
    verified = verify(place / "run", place / "key.pub.pem")
    assert verified.mismatches == () and verified.absent == {} and verified.is_valid
    assert {*verified.same} == {*SUBJECT, *MATERIALS, *FACTS}


@pytest.mark.parametrize("name", [*SUBJECT, *MATERIALS])
def test_a_change_of_any_listed_file_is_found(place: Path, certificate: Path, statement: Statement, name: str) -> None:
    uris = {material.name: material.uri for material in statement.materials}
    found = find_material(uris[name], run=place / "run", base=None, name=name) if name in uris else None
    file = place / "run" / "adapter" / name if name in SUBJECT else found
    assert isinstance(file, Path)
    before, certified = file.read_bytes(), {**statement.subject, **{m.name: m.sha256 for m in statement.materials}}
    changed = before + b" "
    if not file.is_relative_to(place):  # a file of rft: the certificate changes instead
        material = [replace(m, sha256="0" * 64) if m.name == name else m for m in statement.materials]
        other = replace(statement, materials=tuple(material))
        certificate.write_bytes(signed(other.to_payload(), private_key(place / "key.pem")))
        certified[name], changed = "0" * 64, before
    try:
        if changed != before:
            file.write_bytes(changed)
        verified = verify(place / "run" / "adapter", place / "key.pub.pem")
    finally:
        if changed != before:
            file.write_bytes(before)
    [mismatch] = [each for each in verified.mismatches if each.name == name]
    assert mismatch.kind == "changed" and not verified.is_valid
    assert (mismatch.certified, mismatch.found) == (certified[name], hashlib.sha256(changed).hexdigest())


def test_a_change_of_any_stated_value_is_found(place: Path, certificate: Path, statement: Statement) -> None:
    other = replace(statement, facts=dict.fromkeys(FACTS, "invented"))
    values = json.loads(certificate.read_bytes())
    values["payload"] = base64.b64encode(other.to_payload()).decode()
    certificate.write_text(json.dumps(values))
    verified = verify(place / "run", place / "key.pub.pem")
    assert [each.name for each in verified.mismatches] == [str(certificate), *sorted(FACTS)]
    assert {each.kind for each in verified.mismatches} == {"signature", "changed"}
    # The signer's own mistake: the signature holds, and the run's files say something else.
    own = replace(statement, facts={**statement.facts, "seed": 8})
    certificate.write_bytes(signed(own.to_payload(), private_key(place / "key.pem")))
    [mismatch] = verify(place / "run", place / "key.pub.pem").mismatches
    assert (mismatch.name, mismatch.certified, mismatch.found) == ("seed", "8", "7")


def test_a_valid_signature_of_another_key_fails(place: Path, certificate: Path, rft: Rft) -> None:
    certify(place / "run", place / "other.pem")
    assert verify(place / "run", place / "other.pub.pem").is_valid
    code, out, _ = rft("verify", str(place / "run"), f"key={place / 'key.pub.pem'}", "--rerun")
    assert code == 1 and "NOT SIGNED by the given key" in out
    assert f"signature {certificate}: here no signature of the given key" in out
    assert "not here  data/test/test.jsonl: looked up only with a valid signature" in out
    assert "measured again" not in out and "reward" not in out


def test_a_run_signed_by_an_identity_with_the_stub_of_sigstore(
    place: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch, rft: Rft
) -> None:
    Stub(monkeypatch)
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", "ada@example.org https://login.org")
    run, bundle = str(place / "run"), certificate.parent / "certificate.sigstore.json"
    code, out, _ = rft("certify", run, "--sigstore")
    assert code == 0 and f"{bundle}: signed by ada@example.org (https://login.org)" in out
    try:
        code, out, _ = rft("verify", run, "identity=ada@example.org", "issuer=https://login.org")
        assert code == 0 and "signed by ada@example.org (https://login.org)" in out and "reward difference" in out
        code, out, _ = rft("verify", run, "identity=eve@example.org", "issuer=https://login.org")
        assert code == 1 and "NOT SIGNED by eve@example.org" in out and "reward" not in out
        assert verify(run, place / "key.pub.pem").is_valid, "no certificate lists the other"
    finally:
        bundle.unlink()


def test_missing_and_unlisted_files_are_named(place: Path, certificate: Path, tmp_path: Path, rft: Rft) -> None:
    alone = tmp_path / "downloaded"
    shutil.copytree(place / "run" / "adapter", alone)
    (alone / ".gitattributes").write_text("* -text")  # the hub adds it
    key = f"key={place / 'key.pub.pem'}"
    code, out, _ = rft("verify", str(alone), key)
    assert code == 0 and "reward difference: +0.500" in out
    assert "the certificate holds; 7 listed files not here, so not checked" in out
    assert "not here  run/metrics.jsonl: the run folder is not here" in out
    assert rft("verify", str(alone), key, "--complete")[0] == 1
    (alone / "adapter_config.json").unlink()
    (alone / "modeling.py").write_text("print('surprise')")
    code, out, _ = rft("verify", str(alone), key)
    assert code == 1
    assert f"missing   adapter_config.json: certified {hashlib.sha256(b'{}').hexdigest()}" in out
    assert "unlisted  modeling.py: here " in out and "does not hold: 2 differences" in out
    metrics = place / "run" / "metrics.jsonl"
    metrics.rename(tmp_path / "aside")
    kinds = {each.name: each.kind for each in verify(place / "run", place / "key.pub.pem").mismatches}
    (tmp_path / "aside").rename(metrics)
    assert kinds["run/metrics.jsonl"] == "missing"


def test_nothing_that_has_changed_is_signed(place: Path, tmp_path: Path) -> None:
    other = tmp_path / "place"
    shutil.copytree(place, other)
    run = other / "run"
    for file in (run / "config.yaml", run / "manifest.json"):
        file.write_text(file.read_text().replace(str(place), str(other)))
    (other / "mine.py").write_text("def own(completion):\n    return 1.0\n")
    (other / "train.jsonl").write_text('{"prompt": "9+9=", "answer": "18"}\n')
    (other / "base" / "chat_template.jinja").write_text("{{ messages }}")
    (run / "adapter" / "adapter_model.safetensors").write_bytes(b"others")
    summary = json.loads((run / "summary.json").read_text())
    summary["eval"]["after"]["mean"], summary["status"] = 0.99, "failed"
    (run / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(UsageError) as refusal:
        certify(run, place / "key.pem")
    problems = "\n".join(refusal.value.problems)
    for part in (
        "the run is failed",
        "comparison is not that of the recorded rollouts",
        "no step of the run made these weights",
        "base model: ",
        "graders/own: ",
        "data.train: the tasks have changed",
    ):
        assert part in problems
    assert len(refusal.value.problems) == 6


def test_measured_again(
    place: Path, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rft: Rft
) -> None:
    measured: list[EvaluateConfig] = []

    def measure(config: EvaluateConfig, console: object) -> SimpleNamespace:
        measured.append(config)
        return SimpleNamespace(estimate=Estimate(mean=[0.6, 0.4][len(measured) - 1], ci95=None, n=20))

    monkeypatch.setattr("rft.api.verify.measure", measure)
    words = ("verify", str(place / "run"), f"key={place / 'key.pub.pem'}", "--rerun")
    code, out, _ = rft(*words)
    assert code == 0 and "measured again: 0.600 [no interval], within the certified 0.750 [0.528, 0.892]" in out
    [config] = measured
    run = _config(place)
    assert config.adapter == str(place / "run" / "adapter") and config.data.test == str(place / "test.jsonl")
    assert (config.seed, config.graders, config.evaluation) == (run.seed, run.graders, run.evaluation)
    assert (config.sampler, config.model) == (run.sampler, run.model)
    code, out, _ = rft(*words)
    assert code == 1 and "outside of the certified" in out


def test_what_cannot_be_measured_again(place: Path, certificate: Path, statement: Statement, tmp_path: Path) -> None:
    other = [replace(m, sha256="0" * 64) if m.name == "graders/own" else m for m in statement.materials]
    with pytest.raises(UsageError, match=r"mine\.py is not the certified graders/own"):
        _refuse_other_files(read_config(place / "run"), replace(statement, materials=tuple(other)))
    grader = place / "mine.py"
    before = grader.read_text()
    grader.write_text(before + "\n")
    changed = verify(place / "run", place / "key.pub.pem")
    grader.write_text(before)
    with pytest.raises(UsageError, match="it would run changed graders"):
        measure_again(changed)
    shutil.copytree(place / "run" / "adapter", tmp_path / "alone")
    alone = verify_result(tmp_path / "alone", TrustedKey(public_key(place / "key.pub.pem")))
    with pytest.raises(UsageError, match="the configuration of its run is not here"):
        measure_again(alone)
