"""An adapter merged into its base model: the folder says what both together say, or nothing is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import yaml
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.tuners.lora import LoraModel
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from rft.api.merge import run_merge
from rft.config.commands import load_merge
from rft.errors import ConfigError, ModelError, OutputError
from rft.learning.pack_weights import adapter_of, published_config
from rft.models.base_model import load_tokenizer, locate
from rft.run_folder.result_folders import save_adapter
from rft.sampling.proof import TOLERANCES, Gap

IDS = torch.arange(5, 35).unsqueeze(0)
MakeAdapter = Callable[..., Path]


@pytest.fixture(scope="module")
def gpt2(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 with random weights: its linear layers are Conv1D, and its embeddings are tied."""
    folder = tmp_path_factory.mktemp("gpt2")
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(vocab_size=104, n_positions=64, n_embd=32, n_layer=2, n_head=2)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder


@pytest.fixture
def make_adapter(tmp_path: Path) -> MakeAdapter:
    """`make_adapter(base, use_dora=True)`: a folder with an adapter of random values, which change the model a lot."""

    def make(base: Path, *, scale: float = 0.1, template: str | None = None, **options: Any) -> Path:
        torch.manual_seed(1)
        how = {"r": 4, "lora_alpha": 12, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
        model = get_peft_model(
            AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), LoraConfig(**(how | options))
        )
        for name, parameter in model.named_parameters():
            if "lora_" in name and "magnitude" not in name:
                torch.nn.init.normal_(parameter, std=scale)
            elif "modules_to_save" in name:
                torch.nn.init.normal_(parameter, std=0.3)
        # PEFT's own choice of tensors: rft trains no adapters on embeddings, and merges those of others.
        state = {name: tensor.detach().contiguous() for name, tensor in get_peft_model_state_dict(model).items()}
        adapter = adapter_of(state, published_config(model, str(base)), 1)
        save_adapter(tmp_path / "adapter", adapter, load_tokenizer(base, template), "# The adapter's own card\n")
        return tmp_path / "adapter"

    return make


def merge(adapter: Path, *words: str) -> tuple[Path, str]:
    """Merge; the folder, and what was said."""
    target = adapter.parent / "out" / "merged"
    console = Console(record=True, width=200)
    assert run_merge(load_merge([f"adapter={adapter}", f"output_dir={target}", *words]), console=console) == 0
    return target, console.export_text()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(IDS).logits.float()
    return found


def of_adapter(base: Path, adapter: Path) -> torch.Tensor:
    return logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter))


def of_folder(folder: Path) -> torch.Tensor:
    return logits(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32))


@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"use_dora": True}, marks=pytest.mark.full),  # tests/sampling/test_merging.py merges its tensors
        {"target_modules": ["q_proj", "lm_head"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
        pytest.param({"use_rslora": True}, marks=pytest.mark.full),
        pytest.param({"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"down_proj": 3}}, marks=pytest.mark.full),
        pytest.param({"target_modules": ["q_proj", "embed_tokens"]}, marks=pytest.mark.full),
        pytest.param({"target_modules": ["q_proj"], "bias": "lora_only"}, marks=pytest.mark.full),
    ],
    ids=lambda options: "+".join(f"{name}" for name in options) or "plain",
)
def test_the_folder_says_what_base_and_adapter_say(
    make_adapter: MakeAdapter, tiny_model: Path, options: dict[str, Any]
) -> None:
    adapter = make_adapter(tiny_model, **options)
    folder, _ = merge(adapter)
    wanted = of_adapter(tiny_model, adapter)
    torch.testing.assert_close(of_folder(folder), wanted, rtol=1e-4, atol=1e-4)
    assert (wanted - of_folder(tiny_model)).abs().max() > 0.1


def test_conv1d_is_merged_right(make_adapter: MakeAdapter, gpt2: Path) -> None:
    adapter = make_adapter(gpt2)
    folder, _ = merge(adapter)
    wanted = of_adapter(gpt2, adapter)
    torch.testing.assert_close(of_folder(folder), wanted, rtol=1e-4, atol=1e-4)
    assert (wanted - of_folder(gpt2)).abs().max() > 0.1


def test_a_merged_model_is_a_plain_model_with_tokenizer_template_and_card(
    make_adapter: MakeAdapter, tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "own.jinja").write_text("{{ messages[0].content }}=")
    adapter = make_adapter(tiny_model, template=str(tmp_path / "own.jinja"))
    folder, said = merge(adapter)
    assert locate(str(folder)) == folder
    assert not [file for file in folder.iterdir() if file.name.startswith("adapter")]
    tied = json.loads((folder / "config.json").read_text())["tie_word_embeddings"]
    assert tied == json.loads((tiny_model / "config.json").read_text())["tie_word_embeddings"]
    assert (folder / "generation_config.json").read_bytes() == (tiny_model / "generation_config.json").read_bytes()
    chat = [{"role": "user", "content": "1+1"}]
    assert load_tokenizer(folder, None).apply_chat_template(chat, tokenize=False) == "1+1="
    _, front, body = (folder / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(front)["library_name"] == "transformers"
    assert "read back: they differ by" in body
    assert f'folder = "{folder}"' in body
    assert (folder / "ADAPTER_README.md").read_text() == "# The adapter's own card\n"
    assert said.startswith(f"merged into {folder} (float32)\n")
    assert [path.name for path in folder.parent.iterdir()] == ["merged"]


def test_sixteen_bits_are_rounded_and_that_is_said(make_adapter: MakeAdapter, tiny_model: Path) -> None:
    adapter = make_adapter(tiny_model)
    folder, said = merge(adapter, "model.dtype=bfloat16")
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    assert "rounding the weights to bfloat16 costs that" in said
    assert "warning" not in said


def test_an_adapter_that_rounding_takes_away_is_warned_of(make_adapter: MakeAdapter, tiny_model: Path) -> None:
    _, said = merge(make_adapter(tiny_model, scale=1e-3), "model.dtype=bfloat16")
    assert "warning: rounding to bfloat16 takes away more than half as much as the adapter brings" in said


def test_a_merge_that_is_not_the_same_is_refused(
    make_adapter: MakeAdapter, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = make_adapter(tiny_model)
    whole = LoraModel.merge_and_unload

    def doubled(self: Any, **how: Any) -> Any:
        merged = whole(self, **how)
        merged.model.layers[0].mlp.up_proj.weight.mul_(1.01)
        return merged

    monkeypatch.setattr(LoraModel, "merge_and_unload", doubled)
    with pytest.raises(ModelError, match=r"the merged model differs: .* Nothing was written"):
        merge(adapter)
    assert list((adapter.parent / "out").iterdir()) == []


def test_rounding_beyond_the_tolerance_is_refused(
    make_adapter: MakeAdapter, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TOLERANCES, "bfloat16", 1e-7)
    with pytest.raises(ModelError, match=r"rounding the weights to bfloat16 costs too much; model.dtype=float32"):
        merge(make_adapter(tiny_model), "model.dtype=bfloat16")


def test_an_adapter_of_another_model_is_refused(make_adapter: MakeAdapter, tiny_model: Path, gpt2: Path) -> None:
    adapter = make_adapter(tiny_model)
    with pytest.raises(ModelError, match=r"adapter"):
        merge(adapter, f"model.path={gpt2}")


def test_a_run_with_all_weights_has_its_model_already(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "run" / "model").mkdir(parents=True)
    (tmp_path / "run" / "model" / "config.json").write_text("{}")
    _, said = merge(tmp_path / "run")
    run = tmp_path / "run"
    assert said.strip() == (
        f"{run} trained all weights: there is nothing to merge, {run}/model is a plain model folder already"
    )


def test_what_is_there_already_is_not_overwritten(make_adapter: MakeAdapter, tiny_model: Path) -> None:
    adapter = make_adapter(tiny_model)
    (adapter.parent / "out" / "merged").mkdir(parents=True)
    (adapter.parent / "out" / "merged" / "file").touch()
    with pytest.raises(OutputError, match=r"merged is there already; choose another output_dir"):
        merge(adapter)


@pytest.mark.parametrize("words", [(), ("dry_run=true",)])
def test_an_unusable_folder_is_refused_before_the_merge(
    make_adapter: MakeAdapter, tiny_model: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    adapter = make_adapter(tiny_model)
    (tmp_path / "file").touch()
    for target, problem in ((tmp_path / ("x" * 300), "File name too long"), (tmp_path / "file" / "merged", "a file")):
        config = load_merge([f"adapter={adapter}", f"output_dir={target}", *words])
        with pytest.raises(OutputError, match=f"{problem}.*; choose another output_dir"):
            run_merge(config, console=Console(quiet=True))


def test_a_dry_run_writes_nothing(make_adapter: MakeAdapter, tiny_model: Path) -> None:
    adapter = make_adapter(tiny_model)
    folder, said = merge(adapter, "dry_run=true")
    assert said.startswith("no problems; ")
    assert not folder.parent.exists()


def test_a_base_model_that_was_changed_is_warned_of(make_adapter: MakeAdapter, tiny_model: Path) -> None:
    adapter = make_adapter(tiny_model)
    (adapter.parent / "config.yaml").write_text("data: {system: Be brief.}\n")
    (adapter.parent / "manifest.json").write_text('{"base_model": {"fingerprint": "other"}}')
    folder, said = merge(adapter)
    assert "is not the base model that" in said
    assert '"content": "Be brief."' in (folder / "README.md").read_text()


def test_what_is_missing_is_asked_for() -> None:
    with pytest.raises(ConfigError) as caught:
        load_merge([])
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "output_dir is missing",
        "adapter is missing",
    ]


def test_not_a_number_is_beyond_any_tolerance() -> None:
    assert not Gap(mean=float("nan"), largest=float("nan")).within(1.0)
