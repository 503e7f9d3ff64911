"""Which checkpoint a run goes on from, and adapters on disk."""

import json
from pathlib import Path
from typing import Any

import pytest

from rft.checkpoint import last_checkpoint, load_adapter, save_adapter, save_model
from rft.errors import ModelError, OutputError
from rft.types import Adapter, FullWeights, Policy

ADAPTER = Adapter(
    policy=Policy(version=7, fingerprint="f7"), config={"r": 16, "peft_type": "LORA"}, tensors=b"\0tensors"
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    return tmp_path


def add_checkpoint(run: Path, step: int, *, whole: bool = True) -> Path:
    folder = run / "checkpoints" / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "optimizer.pt").write_text("weights")
    if whole:
        (folder / "complete.json").write_text(json.dumps({"step": step}))
    return folder


def test_the_newest_by_number_not_by_name(run: Path) -> None:
    for step in (9, 10, 2):
        add_checkpoint(run, step)
    assert last_checkpoint(run) == (run / "checkpoints" / "checkpoint-10", 10)


def test_an_interrupted_checkpoint_is_passed_over(run: Path) -> None:
    whole = add_checkpoint(run, 20)
    add_checkpoint(run, 40, whole=False)
    assert last_checkpoint(run) == (whole, 20)


def test_no_whole_checkpoint(run: Path) -> None:
    add_checkpoint(run, 20, whole=False)
    with pytest.raises(OutputError, match="the run has no whole checkpoint to go on from; start it anew"):
        last_checkpoint(run)


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=rf"resume={tmp_path}: there is no run in that folder \(no config.yaml\)"):
        last_checkpoint(tmp_path)


def test_an_adapter_comes_back_as_it_was(tmp_path: Path) -> None:
    save_adapter(tmp_path / "adapter", ADAPTER, "# Model card \u2713\n")
    assert (tmp_path / "adapter" / "README.md").read_text(encoding="utf-8") == "# Model card \u2713\n"
    # From its own folder, and from the run's.
    for path in (tmp_path / "adapter", tmp_path):
        adapter = load_adapter(path)
        assert (adapter.config, adapter.tensors) == (ADAPTER.config, ADAPTER.tensors)
        assert adapter.policy.version == 1


def test_the_fingerprint_is_that_of_the_tensors(tmp_path: Path) -> None:
    save_adapter(tmp_path / "adapter", ADAPTER, "")
    # printf '\\0tensors' | sha256sum
    assert load_adapter(tmp_path).policy.fingerprint == "99c8c91c641f2d1d"


def test_an_adapter_is_replaced_whole(tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "left_over.bin").write_text("of an earlier version")
    (tmp_path / "adapter.tmp").mkdir()
    (tmp_path / "adapter.tmp" / "half").write_text("of an interrupted write")
    save_adapter(folder, ADAPTER, "")
    assert sorted(file.name for file in folder.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_a_failed_write_leaves_the_old_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "adapter"
    save_adapter(folder, ADAPTER, "the old one")

    def disk_full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", disk_full)
    with pytest.raises(OutputError, match="No space left on device"):
        save_adapter(folder, ADAPTER, "the new one")
    assert (folder / "README.md").read_text() == "the old one"
    assert load_adapter(tmp_path).tensors == ADAPTER.tensors


def test_what_is_no_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load_adapter(tmp_path / "nothing")
    assert caught.value.problems == (
        f"{tmp_path / 'nothing'} is neither a run folder nor an adapter folder: no adapter_config.json and no "
        "adapter_model.safetensors there",
    )
    save_adapter(tmp_path / "adapter", ADAPTER, "")
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"adapter folder: no adapter_model.safetensors there"):
        load_adapter(tmp_path)


def test_a_broken_configuration_is_named(tmp_path: Path) -> None:
    save_adapter(tmp_path / "adapter", ADAPTER, "")
    (tmp_path / "adapter" / "adapter_config.json").write_text("{")
    with pytest.raises(ModelError, match=r"adapter_config.json is no JSON"):
        load_adapter(tmp_path)


def test_a_whole_model_has_the_configuration_and_tokenizer_of_its_base(tiny_model: Path, tmp_path: Path) -> None:
    import safetensors.torch
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    tensors = safetensors.torch.load_file(tiny_model / "model.safetensors")
    doubled = {name: tensor.float() * 2 for name, tensor in tensors.items()}
    weights = FullWeights(
        policy=Policy(version=3, fingerprint="f3"),
        tensors=safetensors.torch.save(doubled, metadata={"format": "pt"}),
    )
    for _ in range(2):  # one that is there already is replaced
        save_model(tmp_path / "model", weights, tiny_model, "# Card\n")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(model.state_dict()[name], base.state_dict()[name] * 2)
    text = "1+1="
    assert AutoTokenizer.from_pretrained(tmp_path / "model")(text) == AutoTokenizer.from_pretrained(tiny_model)(text)
    assert (tmp_path / "model" / "README.md").read_text() == "# Card\n"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
