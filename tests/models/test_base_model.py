"""The base model on disk. Folders are made here; the hub is never reached."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import numpy
import pytest
import safetensors.numpy
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from rft.errors import ModelError
from rft.models import base_model
from rft.models.architectures import TRIED, serving_problems
from rft.models.base_model import context_tokens, fingerprint, load_tokenizer, locate

WEIGHT = numpy.zeros((2, 3), dtype=numpy.float32)
TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "model"
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]").save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "max_position_embeddings": 64}))
    safetensors.numpy.save_file({"a": WEIGHT}, folder / "model.safetensors")
    return folder


@pytest.fixture
def model(made: Path, tmp_path: Path) -> Path:
    """A model folder of the test's own: tokenizer without a chat template, 64 tokens of context."""
    return shutil.copytree(made, tmp_path / "model")


def problem_of(path: str) -> str:
    """The one problem that locating the model raises."""
    with pytest.raises(ModelError) as caught:
        locate(path)
    (problem,) = caught.value.problems
    return problem


def test_locate_a_folder(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model.parent)
    assert locate("model") == Path("model")


def test_locate_the_embedded_model(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_model, "EMBEDDED_MODELS", {"embedded:tiny": model})
    assert locate("embedded:tiny") == model
    assert problem_of("embedded:huge") == "model.path=embedded:huge is not shipped with rft; available: embedded:tiny"


def test_a_model_must_be_whole(model: Path) -> None:
    start = f"model.path={model}: the model in {model} is incomplete: "
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    assert problem_of(str(model)) == (
        f"{start}weights are missing (*.safetensors); pytorch_model.bin must be converted first, in Python: "
        "from transformers import AutoModelForCausalLM; "
        f"AutoModelForCausalLM.from_pretrained('{model}').save_pretrained('{model}')"
    )
    (model / "pytorch_model.bin").rename(model / "model-Q4.gguf")
    assert problem_of(str(model)).endswith(
        "weights are missing (*.safetensors); model-Q4.gguf belongs to other programs; use the model "
        "from which it was made"
    )
    (model / "model-Q4.gguf").unlink()
    (model / "config.json").unlink()
    assert problem_of(str(model)) == f"{start}config.json is missing; weights are missing (*.safetensors)"
    (model / "adapter_config.json").touch()
    assert problem_of(str(model)) == f"{start}the folder contains an adapter; set model.path to its base model"


def test_all_files_of_the_weights_must_be_there(model: Path) -> None:
    weights = {"a": "model.safetensors", "b": "two.safetensors", "c": "two.safetensors", "d": "three.safetensors"}
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    assert problem_of(str(model)).endswith("2 of 3 weight files are missing: three.safetensors, two.safetensors")
    safetensors.numpy.save_file({"b": WEIGHT, "c": WEIGHT}, model / "two.safetensors")
    safetensors.numpy.save_file({"other": WEIGHT}, model / "three.safetensors")
    assert problem_of(str(model)).endswith(
        "three.safetensors lacks 1 tensors that model.safetensors.index.json lists, such as d: the folder mixes files "
        "of two models; download all files again"
    )
    safetensors.numpy.save_file({"d": WEIGHT}, model / "three.safetensors")
    assert locate(str(model)) == model


def test_a_torn_file_of_weights_is_named(model: Path) -> None:
    file = model / "model.safetensors"
    whole = file.read_bytes()
    for content, problem in [
        (
            whole[:-1],
            f"model.safetensors is truncated: it has {len(whole) - 1} of the {len(whole)} bytes that its header",
        ),
        (whole[: len(whole) // 4], "model.safetensors is truncated or not a safetensors file: it has"),
        (b"", "model.safetensors is truncated or not a safetensors file: it has 0 bytes"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "model.safetensors is a Git LFS pointer"),
        (b"\x02" + bytes(7) + b"[]", "model.safetensors has a header in another format"),
        (b"\x02" + bytes(7) + b"{]", "model.safetensors has a header that is not JSON"),
    ]:
        file.write_bytes(content)
        assert problem in problem_of(str(model))


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"model_type": "t5"}, "it is an encoder-decoder (t5): one half reads the prompt"),
        ({"model_type": "new", "is_encoder_decoder": True}, "it is an encoder-decoder (new)"),
        (
            {"model_type": "bert", "architectures": ["BertForMaskedLM"]},
            "it is a BertForMaskedLM, which fills in masked",
        ),
        ({"model_type": "qwen2", "quantization_config": {"quant_method": "awq"}}, "its weights are quantized (awq)"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_the_true_reason(
    model: Path, config: dict[str, object], problem: str
) -> None:
    (model / "config.json").write_text(json.dumps(config))
    assert problem_of(str(model)).startswith(f"model.path={model}: {problem}")


def test_a_file_is_no_model(model: Path) -> None:
    file = model / "model.safetensors"
    assert problem_of(str(file)) == (f"model.path={file} is a file; give the folder with config.json and *.safetensors")


def test_a_missing_folder_is_named_with_its_neighbours(model: Path) -> None:
    path = model.parent / "modle"
    assert problem_of(str(path)) == f"model.path={path}: no folder at {path}; similar names: {model}"


def test_hub_model(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot_download(repo_id: str, *, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        assert repo_id == "owner/name"
        assert "*.safetensors" in allow_patterns
        return str(model)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert locate("owner/name") == model


def test_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    problem = problem_of("no-such-owner/name")
    assert problem.startswith(
        "model.path=no-such-owner/name is neither a local folder nor a model that the Hugging Face"
    )
    assert "https://huggingface.co/no-such-owner/name" in problem
    assert "HF_HUB_OFFLINE=1" in problem


def test_a_tokenizer_needs_a_chat_template(model: Path) -> None:
    with pytest.raises(ModelError, match=r"no chat template.*model\.chat_template=<file\.jinja>") as caught:
        load_tokenizer(model, None)
    assert "(chatml, llama3, question_answer, user_assistant)" in str(caught.value)
    assert "data.format=raw" in str(caught.value)
    assert load_tokenizer(model, None, needs_template=False).chat_template is None
    assert "<|im_start|>" in load_tokenizer(model, "chatml").chat_template


def test_a_chat_template_from_a_file_or_the_models_own(model: Path, tmp_path: Path) -> None:
    (model / "chat_template.jinja").write_text("own")
    assert load_tokenizer(model, None).chat_template == "own"
    given = tmp_path / "given.jinja"
    given.write_text(TEMPLATE)
    tokenizer = load_tokenizer(model, str(given))
    assert tokenizer.chat_template == TEMPLATE
    ids = tokenizer.apply_chat_template([{"role": "user", "content": "a"}], tokenize=True, return_dict=False)
    assert ids == [1]


def test_a_missing_chat_template_file(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load_tokenizer(model, str(tmp_path / "missing.jinja"))
    assert f"model.chat_template={tmp_path}/missing.jinja" in str(caught.value)
    assert "No such file" in str(caught.value)


def test_a_tokenizer_that_cannot_be_loaded(model: Path) -> None:
    (model / "tokenizer.json").write_text("{")
    with pytest.raises(
        ModelError, match=r"cannot be loaded: .*it has the files: tokenizer.json, tokenizer_config.json"
    ):
        load_tokenizer(model, None)


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ({"max_position_embeddings": 32}, 32),
        ({"n_positions": 16}, 16),
        ({"max_seq_len": 24}, 24),
        ({"text_config": {"max_position_embeddings": 8}, "vision_config": {"max_position_embeddings": 4}}, 8),
    ],
)
def test_context_tokens(tmp_path: Path, config: dict[str, object], tokens: int) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert context_tokens(tmp_path) == tokens


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{}", "(max_position_embeddings), neither at the top nor in text_config; set model.max_context_tokens=<"),
        ("[]", "contains no JSON object"),
        ("{", "cannot be read: Expecting"),
    ],
)
def test_context_tokens_unknown(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelError) as caught:
        context_tokens(tmp_path)
    assert problem in str(caught.value)


def test_the_fingerprint_is_of_what_the_model_computes(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    # printf 'config.json %s\nmodel.safetensors %s\n' $(printf '{}' | sha256sum | cut -d' ' -f1) \
    #     $(printf weights | sha256sum | cut -d' ' -f1) | sha256sum
    by_hand = "86457829bc176a62"
    assert fingerprint(tmp_path) == by_hand
    (tmp_path / "README.md").write_text("more")
    (tmp_path / "pytorch_model.bin").write_text("more")
    assert fingerprint(tmp_path) == by_hand
    for name in ("tokenizer.json", "model-2.safetensors", "merges.txt", "chat_template.jinja"):
        before = fingerprint(tmp_path)
        (tmp_path / name).touch()
        assert fingerprint(tmp_path) != before
    before = fingerprint(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"Weights")
    assert fingerprint(tmp_path) != before


def test_importing_is_light() -> None:
    heavy = "{'torch', 'transformers', 'datasets', 'huggingface_hub', 'pyarrow'} & sys.modules.keys()"
    modules = "rft.models.base_model, rft.data.splits, rft.data.order, rft.data.rendering"
    code = f"import sys, {modules}; print(sorted({heavy}))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_embedded_models_tokenizer_is_what_auto_tokenizer_finds_but_without_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from transformers import AutoTokenizer

    folder = base_model.EMBEDDED_MODELS["embedded:tiny"]
    auto = AutoTokenizer.from_pretrained(folder)
    monkeypatch.delattr(AutoTokenizer, "from_pretrained")
    ours = load_tokenizer(folder, None)
    assert type(ours) is type(auto)
    assert ours.backend_tokenizer.to_str() == auto.backend_tokenizer.to_str()
    assert ours.special_tokens_map == auto.special_tokens_map
    assert ours.chat_template == auto.chat_template


@pytest.mark.parametrize("model_type", [*TRIED, "deepseek_v3"])
@pytest.mark.parametrize("declared", ["TokenizersBackend", "PreTrainedTokenizerFast", "Qwen2Tokenizer"])
def test_the_class_of_a_tokenizer_is_the_one_of_auto_tokenizer(model: Path, model_type: str, declared: str) -> None:
    for name, changes in (
        ("config.json", {"model_type": model_type}),
        ("tokenizer_config.json", {"tokenizer_class": declared, "chat_template": TEMPLATE}),
    ):
        content = json.loads((model / name).read_text())
        (model / name).write_text(json.dumps(content | changes))
    with_merges = Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")]))
    with_merges.save(str(model / "tokenizer.json"))
    ours, auto = load_tokenizer(model, None), AutoTokenizer.from_pretrained(str(model))
    assert type(ours) is type(auto)
    assert ours.backend_tokenizer.to_str() == auto.backend_tokenizer.to_str()


def test_tokenizers_of_common_models_load_without_torch(model: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from rft.models.base_model import load_tokenizer
load_tokenizer(Path({str(model)!r}), None, needs_template=False)
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("config", "serve", "with_adapter", "problem"),
    [
        ({"model_type": "gpt2"}, "adapter", True, "sampler.serve=adapter: vLLM serves no adapters beside GPT-2"),
        ({"model_type": "gpt2"}, None, True, None),
        ({"model_type": "llama"}, "adapter", True, None),
        ({"model_type": "mixtral", "num_local_experts": 8}, None, True, "the model (mixtral) is a mixture of experts"),
        ({"model_type": "mixtral", "num_local_experts": 8}, None, False, None),
        ({"model_type": "gpt_neox"}, None, False, "vLLM has no implementation of GPT-NeoX, and the log-"),
    ],
)
def test_how_an_architecture_can_be_served(
    config: dict[str, object], serve: str | None, with_adapter: bool, problem: str | None
) -> None:
    found = serving_problems(config, serve, with_adapter=with_adapter)
    assert [one.startswith(problem or "") for one in found] == [True] * (problem is not None)
