from pathlib import Path

import pytest
import torch
from harness import models
from transformers import AutoModelForCausalLM, AutoTokenizer

from rft.data.rendering import Renderer
from rft.data.splits import load_task_sets
from rft.models.base_model import fingerprint, load_tokenizer


@pytest.mark.e2e  # real libraries or real limits: too slow for a unit test
def test_the_medium_model_ends_its_completions_by_chance_and_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    folder = models.make_medium(tmp_path / "a")
    assert fingerprint(folder) == fingerprint(models.make_medium(tmp_path / "b"))
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert 10e6 < model.num_parameters() < 30e6
    # Whatever was said before, the end is about as likely: one in a hundred.
    torch.manual_seed(0)
    with torch.no_grad():
        chances = model(torch.randint(10, len(tokenizer), (4, 64))).logits.softmax(-1)[..., tokenizer.eos_token_id]
    assert 0.005 < float(chances.mean()) < 0.02
    assert float(chances.std()) < float(chances.mean())


def test_prompts_of_the_shapes_have_as_many_tokens_as_were_asked_for(tmp_path: Path) -> None:
    folder = models.make_qwen(tmp_path / "qwen", "0.5B", dry=True)
    file = models.write_prompts(tmp_path / "p.jsonl", num_tasks=5, tokens=16)
    tasks = load_task_sets(
        train=str(file), validation=None, test=None, columns={}, system=None, validation_share=0.0, seed=0,
        allow_overlap=False,
    ).train  # fmt: skip
    renderer = Renderer(load_tokenizer(folder, None))
    prompts = [renderer.render(task) for task in tasks]
    assert [len(ids) for ids in prompts] == [16] * 5
    assert len(set(prompts)) == 5


@pytest.mark.parametrize("shape", ["0.5B", "7B"])
def test_no_completion_of_a_shape_can_end_early(tmp_path: Path, shape: str) -> None:
    """The one with a tied output matrix, and one without."""
    folder = models.make_qwen(tmp_path / "qwen", shape, dry=True)
    model = AutoModelForCausalLM.from_pretrained(folder)
    end = model.generation_config.eos_token_id
    assert end == AutoTokenizer.from_pretrained(folder).eos_token_id == models.DRY_VOCABULARY - 1
    with torch.no_grad():
        chances = model(torch.arange(64)[None]).logits.softmax(-1)[..., end]
    assert chances.max().item() < 1e-20


def test_the_largest_logit_is_as_asked_for(tmp_path: Path) -> None:
    folder = models.make_qwen(tmp_path / "qwen", "0.5B", dry=True, top_logit=20.0)
    model = AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(1)
    with torch.no_grad():
        top = model(torch.randint(models.DRY_VOCABULARY - 1, (8, 32))).logits.amax(-1).mean()
    assert top.item() == pytest.approx(20.0, rel=0.1)
