"""The code of a model card: it runs as it is printed, or asks vLLM for what it has."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rft.run_folder.model_snippets import Snippets

SNIPPETS = Snippets(
    folder=Path("/results/adapter"),
    max_tokens=8,
    temperature=1.0,
    system='Say "it"\nin {one} word, ü.',
    template_options={"enable_thinking": False},
)
RAW = Snippets(folder=Path("/results/adapter"), max_tokens=8, is_raw=True, stop=["\n", "Q:"])


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """`run(code)`: what a script prints, started in a folder where nothing lies."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    def script(code: str) -> str:
        exec(compile(code, "snippet.py", "exec"), {"__name__": "__main__"})
        return capsys.readouterr().out

    return script


def test_an_adapter_with_peft(
    make_peft_model: Any,
    tiny_model: Path,
    tmp_path: Path,
    run: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch
    from transformers import AutoTokenizer

    from rft.learning.pack_weights import pack_adapter
    from rft.models.base_model import load_tokenizer
    from rft.run_folder.result_folders import save_adapter

    model = make_peft_model(seed=1)
    adapter = pack_adapter(model, version=1, base_model_name=str(tiny_model))
    save_adapter(tmp_path / "adapter", adapter, load_tokenizer(tiny_model, None), "")
    snippets = replace(SNIPPETS, folder=tmp_path / "adapter")
    # Sampling takes the likeliest token, so that both take the same.
    monkeypatch.setattr(torch, "multinomial", lambda chances, num_samples: chances.argmax(-1, keepdim=True))
    printed = run(snippets.peft())
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    chat = [{"role": "system", "content": SNIPPETS.system}, {"role": "user", "content": "What is 17 + 25?"}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False, return_tensors="pt")
    expected = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=8)
    assert printed == tokenizer.decode(expected[0, ids.shape[1] :], skip_special_tokens=True) + "\n"
    assert len(printed) > 1


def test_a_whole_model_with_transformers(tiny_model: Path, run: Callable[[str], str]) -> None:
    assert len(run(replace(SNIPPETS, folder=tiny_model).transformers())) > 1


def test_raw_prompts_and_stop_strings(
    tiny_model: Path, run: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch, "multinomial", lambda chances, num_samples: chances.argmax(-1, keepdim=True))
    raw = replace(RAW, folder=tiny_model, max_tokens=8, stop=())
    whole = run(raw.transformers()).rstrip("\n")
    assert len(whole) > 3
    assert run(replace(raw, stop=[whole[2]]).transformers()) == whole[: whole.index(whole[2]) + 1] + "\n"


@pytest.mark.parametrize("snippets", [SNIPPETS, RAW])
@pytest.mark.parametrize("has_adapter", [True, False])
def test_vllm_knows_every_argument(snippets: Snippets, has_adapter: bool) -> None:
    code = snippets.vllm_with_adapter("some/model", 12) if has_adapter else snippets.vllm()
    if (package := importlib.util.find_spec("vllm")) is None or package.submodule_search_locations is None:
        pytest.skip("vLLM is not installed")
    root = Path(package.submodule_search_locations[0])
    known = {
        "LLM": arguments(root / "entrypoints" / "llm.py", "LLM", "__init__")
        | fields(root / "engine" / "arg_utils.py", "EngineArgs"),
        "chat": arguments(root / "entrypoints" / "llm.py", "LLM", "chat"),
        "generate": arguments(root / "entrypoints" / "llm.py", "LLM", "generate"),
        "SamplingParams": fields(root / "sampling_params.py", "SamplingParams"),
        "LoRARequest": fields(root / "lora" / "request.py", "LoRARequest"),
    }
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    used = {call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id: call for call in calls}  # type: ignore[attr-defined]
    assert {"LLM", "SamplingParams"} <= used.keys()
    assert len({"chat", "generate"} & used.keys()) == 1
    for name in used.keys() & known.keys():
        assert {keyword.arg for keyword in used[name].keywords} <= known[name]


def test_the_rank_is_one_that_vllm_allows() -> None:
    assert "max_lora_rank=16" in SNIPPETS.vllm_with_adapter("some/model", 12)
    assert "max_lora_rank=8" in SNIPPETS.vllm_with_adapter("some/model", 8)


def class_in(file: Path, name: str) -> ast.ClassDef:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return next(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == name)


def arguments(file: Path, of_class: str, method: str) -> set[str]:
    """Names of the arguments of a method, read from the source: importing vLLM takes ten seconds."""
    body = class_in(file, of_class).body
    found = next(node for node in body if isinstance(node, ast.FunctionDef) and node.name == method)
    return {argument.arg for argument in [*found.args.args, *found.args.kwonlyargs]}


def fields(file: Path, of_class: str) -> set[str]:
    """Names of the annotated fields of a class."""
    body = class_in(file, of_class).body
    return {node.target.id for node in body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}
