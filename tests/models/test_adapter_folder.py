"""Adapters on disk: which folder holds one, and what is said of one that is damaged."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from rft.errors import ModelError
from rft.models.adapter_folder import base_model_of, find_adapter, load_adapter, max_rank

CONFIG: dict[str, Any] = {"peft_type": "LORA", "base_model_name_or_path": "some/model", "r": 2, "lora_alpha": 4}
MODULE = "base_model.model.layers.0.q_proj"
TENSORS = {
    f"{MODULE}.lora_A.weight": np.ones((2, 3), dtype=np.float32),
    f"{MODULE}.lora_B.weight": np.ones((4, 2), dtype=np.float32),
}
# A header of 56 bytes after its length, then one float32.
BY_HAND = b'8\0\0\0\0\0\0\0{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}  \0\0\x80?'


def write(folder: Path, config: Any = CONFIG, tensors: bytes | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    text = config if isinstance(config, str) else json.dumps(config)
    (folder / "adapter_config.json").write_text(text)
    (folder / "adapter_model.safetensors").write_bytes(safetensors.numpy.save(TENSORS) if tensors is None else tensors)
    return folder


def test_an_adapter_is_read_from_its_folder_and_from_its_run(tmp_path: Path) -> None:
    folder = write(tmp_path / "run" / "adapter")
    for path in (folder, tmp_path / "run"):
        adapter = load_adapter(path)
        assert (adapter.config, adapter.policy.version) == (CONFIG, 1)
        assert adapter.tensors == (folder / "adapter_model.safetensors").read_bytes()
    assert find_adapter(write(tmp_path / "run" / "checkpoints" / "checkpoint-2")).name == "checkpoint-2"


def test_the_fingerprint_is_that_of_the_tensors(tmp_path: Path) -> None:
    # sha256sum of BY_HAND
    assert load_adapter(write(tmp_path, tensors=BY_HAND)).policy.fingerprint == "932dcf40673d4c3a"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("{", "adapter_config.json is not JSON"),
        ([], "adapter_config.json contains no JSON object"),
        ({**CONFIG, "r": None}, "r: should be a whole number"),
        ({**CONFIG, "r": 0}, "r: should be at least 1"),
        ({key: CONFIG[key] for key in ("peft_type", "r")}, "lora_alpha: field required"),
        ({**CONFIG, "rank_pattern": ["q_proj"]}, "rank_pattern: should be a mapping of names to values"),
        ({**CONFIG, "alpha_pattern": {"q_proj": "x"}}, "alpha_pattern.q_proj: should be a number"),
        ({**CONFIG, "modules_to_save": "lm_head"}, "modules_to_save: should be a list"),
        ({**CONFIG, "peft_type": "PREFIX_TUNING"}, "peft_type: should be 'LORA'"),
    ],
)
def test_a_wrong_configuration_is_named(tmp_path: Path, config: Any, said: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_adapter(write(tmp_path, config))
    (problem,) = caught.value.problems
    assert problem.startswith(str(tmp_path / "adapter_config.json"))
    assert said in problem
    assert caught.value.exit_code == 2


def test_a_damaged_weight_file_is_named(tmp_path: Path) -> None:
    whole = safetensors.numpy.save(TENSORS)
    half = safetensors.numpy.save({f"{MODULE}.lora_A.weight": TENSORS[f"{MODULE}.lora_A.weight"]})
    other = safetensors.numpy.save(TENSORS | {f"{MODULE}.lora_B.weight": np.ones((4, 3), dtype=np.float32)})
    for tensors in (b"", whole[:40], whole[:-1], b"\0" * 100, half, other):
        with pytest.raises(ModelError, match=r"adapter_model.safetensors is damaged: .*; copy the adapter again"):
            load_adapter(write(tmp_path, tensors=tensors))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_of_a_training_that_diverged_are_named(tmp_path: Path, value: float) -> None:
    b = np.ones((4, 2), dtype=np.float32)
    b[3, 1] = value
    with pytest.raises(ModelError, match=rf"not finite in 1 tensor, such as {MODULE}.lora_B.weight: its training"):
        load_adapter(write(tmp_path, tensors=safetensors.numpy.save(TENSORS | {f"{MODULE}.lora_B.weight": b})))


def test_another_rank_than_configured_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"safetensors has modules of rank 2, and adapter_config.json configures 3, 8;"
    ):
        load_adapter(write(tmp_path, {**CONFIG, "r": 8, "rank_pattern": {"k_proj": 3}}))


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    (write(tmp_path) / "adapter_model.safetensors").rename(tmp_path / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"its weights in adapter_model.bin, which may run code .*; ask its author"):
        load_adapter(tmp_path)


def test_an_adapter_that_names_no_base_model(tmp_path: Path) -> None:
    path = write(tmp_path, {"r": 2, "lora_alpha": 4})
    with pytest.raises(ModelError, match=r"adapter_config.json names no base model .*; set model.path="):
        base_model_of(load_adapter(path), path)
    assert base_model_of(load_adapter(write(tmp_path)), tmp_path) == "some/model"


def test_the_highest_rank_is_that_of_any_module(tmp_path: Path) -> None:
    assert max_rank(load_adapter(write(tmp_path))) == 2
    assert max_rank(load_adapter(write(tmp_path, {**CONFIG, "rank_pattern": {"q_proj": 8, "k_proj": 1}}))) == 8


def test_what_is_no_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load_adapter(tmp_path / "nothing")
    assert caught.value.problems == (f"{tmp_path / 'nothing'} does not exist; name a run folder or an adapter folder",)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError) as caught:
        load_adapter(tmp_path / "empty")
    assert caught.value.problems == (
        f"{tmp_path / 'empty'} is neither a run folder nor an adapter folder: it has no adapter_config.json "
        "and no adapter_model.safetensors",
    )
    (write(tmp_path / "adapter") / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"adapter folder: it has no adapter_model.safetensors"):
        load_adapter(tmp_path)


def test_a_run_that_has_not_finished_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("{}")
    with pytest.raises(ModelError, match=rf"has no result yet, .*; continue it with resume={tmp_path}, or use one of"):
        load_adapter(tmp_path)


def test_a_run_that_trained_all_weights_has_a_model_instead(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    model = f"model.path={tmp_path}/model, or start from it with start_mode=merge"
    with pytest.raises(ModelError, match=f"trained all weights and has no adapter; use its model: {model}"):
        load_adapter(tmp_path)
