"""The results that a run writes: an adapter or a model, whole or not at all."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from rft.errors import WriteError
from rft.models.adapter_folder import load_adapter
from rft.models.base_model import load_tokenizer
from rft.run_folder.result_folders import save_adapter, save_model, whole_folder
from rft.types import Adapter, FullWeights, Policy
from tests.kill_points import at_every_change

ADAPTER = Adapter(
    policy=Policy(version=7, fingerprint="f7"),
    config={"r": 16, "lora_alpha": 32, "peft_type": "LORA"},
    tensors=safetensors.numpy.save({"a": np.ones(1, dtype=np.float32)}),
)


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return load_tokenizer(tiny_model, None)


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
    with pytest.raises(WriteError, match="No space left on device"):
        save_adapter(folder, ADAPTER, tokenizer, "the new one")
    assert (folder / "README.md").read_text() == "the old one"
    assert load_adapter(tmp_path).tensors == ADAPTER.tensors


def test_the_tokenizer_of_a_result_has_the_template_of_the_run(tiny_model: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    (tmp_path / "own.jinja").write_text("{{ messages[0].content }}=", encoding="utf-8")
    own = load_tokenizer(tiny_model, str(tmp_path / "own.jinja"))
    weights = FullWeights(policy=ADAPTER.policy, tensors=ADAPTER.tensors)
    save_adapter(tmp_path / "adapter", ADAPTER, own, "")
    base = shutil.copytree(tiny_model, tmp_path / "base")
    (base / "origin.json").touch()  # of the base model, not of the result
    save_model(tmp_path / "model", weights, base, own, "")
    assert not (tmp_path / "model" / "origin.json").exists()
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


def test_whenever_the_process_dies_no_half_result_is_there(tmp_path: Path) -> None:
    def write(folder: Path, text: str) -> None:
        with whole_folder(folder / "adapter") as unfinished:
            for name in ("a", "b"):
                (unfinished / name).write_text(text)

    states = set()
    for folder in at_every_change(lambda folder: write(folder, "new"), lambda folder: write(folder, "old"), tmp_path):
        states.add(tuple(sorted(file.read_text() for file in (folder / "adapter").glob("*"))))
        write(folder, "again")
        assert [path.name for path in folder.iterdir()] == ["adapter"]
    # Between two renames, the folder is absent, and a resumed run writes it again.
    assert states == {("old", "old"), (), ("new", "new")}
