"""Which checkpoint a run goes on from, and the results that it writes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from rft.errors import OutputError
from rft.models.adapter_folder import load_adapter
from rft.models.base_model import load_tokenizer
from rft.run_folder.checkpoint import last_checkpoint, save_adapter, save_model
from rft.types import Adapter, FullWeights, Policy

ADAPTER = Adapter(
    policy=Policy(version=7, fingerprint="f7"),
    config={"r": 16, "lora_alpha": 32, "peft_type": "LORA"},
    tensors=safetensors.numpy.save({"a": np.ones(1, dtype=np.float32)}),
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    return tmp_path


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return load_tokenizer(tiny_model, None)


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
    with pytest.raises(OutputError, match="the run has no complete checkpoint; start a new run"):
        last_checkpoint(run)


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=rf"resume={tmp_path}: the folder contains no run \(no config.yaml\)"):
        last_checkpoint(tmp_path)


def test_an_adapter_is_replaced_whole(tokenizer: Any, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "left_over.bin").write_text("of an earlier version")
    (tmp_path / "adapter.tmp").mkdir()
    (tmp_path / "adapter.tmp" / "half").write_text("of an interrupted write")
    save_adapter(folder, ADAPTER, tokenizer, "")
    assert sorted(file.name for file in folder.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "chat_template.jinja",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_a_failed_write_leaves_the_old_adapter(tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "adapter"
    save_adapter(folder, ADAPTER, tokenizer, "the old one")

    def disk_full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", disk_full)
    with pytest.raises(OutputError, match="No space left on device"):
        save_adapter(folder, ADAPTER, tokenizer, "the new one")
    assert (folder / "README.md").read_text() == "the old one"
    assert load_adapter(tmp_path).tensors == ADAPTER.tensors


def test_the_tokenizer_of_a_result_has_the_template_of_the_run(tiny_model: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    (tmp_path / "own.jinja").write_text("{{ messages[0].content }}=", encoding="utf-8")
    own = load_tokenizer(tiny_model, str(tmp_path / "own.jinja"))
    weights = FullWeights(policy=ADAPTER.policy, tensors=ADAPTER.tensors)
    save_adapter(tmp_path / "adapter", ADAPTER, own, "")
    save_model(tmp_path / "model", weights, tiny_model, own, "")
    chat = [{"role": "user", "content": "1+1"}]
    for folder in (tmp_path / "adapter", tmp_path / "model"):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        assert tokenizer.apply_chat_template(chat, tokenize=False) == "1+1="
        assert tokenizer("1+1=").input_ids == AutoTokenizer.from_pretrained(tiny_model)("1+1=").input_ids
        assert "local" not in (folder / "tokenizer_config.json").read_text()


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
        save_model(tmp_path / "model", weights, tiny_model, load_tokenizer(tiny_model, None), "# Card\n")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(model.state_dict()[name], base.state_dict()[name] * 2)
    text = "1+1="
    assert AutoTokenizer.from_pretrained(tmp_path / "model")(text) == AutoTokenizer.from_pretrained(tiny_model)(text)
    assert (tmp_path / "model" / "README.md").read_text() == "# Card\n"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
