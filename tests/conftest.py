"""Records by the handful, and a tiny real model, for every test that wants one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from rft.types import Grade, GradedGroup, Policy, Rollout, Score, Split, Status, StopReason, Task

EMBEDDED = Path(__file__).parents[1] / "rft" / "embedded" / "model"
SPECIAL = ["<unk>", "<pad>", "<|end|>", "<|user|>", "<|assistant|>"]
TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def _task(task_id: str = "t", content: str = "1+1=", **item: Any) -> Task:
    return Task(id=task_id, messages=({"role": "user", "content": content},), item=item, split=Split.TRAIN)


def _rollout(task_id: str = "t", index: int = 0, **changes: Any) -> Rollout:
    values: dict[str, Any] = {
        "prompt_ids": (5, 6),
        "completion_ids": (7, 2),
        "logprobs": (-0.5, -0.25),
        "text": "a",
        "stop": StopReason.STOP,
        "policy": Policy(version=0, fingerprint="base"),
    }
    return Rollout(task_id=task_id, index=index, **(values | changes))


def _group(rewards: Sequence[float | None], task_id: str = "t", **of_rollouts: Any) -> GradedGroup:
    grades = [
        Grade(scores={"g": Score(value=reward, status=Status.SKIPPED if reward is None else Status.OK)}, reward=reward)
        for reward in rewards
    ]
    rollouts = tuple(_rollout(task_id, index, **of_rollouts) for index in range(len(rewards)))
    return GradedGroup(task=_task(task_id), rollouts=rollouts, grades=tuple(grades))


@pytest.fixture(scope="session")
def make_task() -> Callable[..., Task]:
    """`make_task("id", "prompt", column=...)`."""
    return _task


@pytest.fixture(scope="session")
def make_rollout() -> Callable[..., Rollout]:
    """`make_rollout("task id", 0, text="...")`."""
    return _rollout


@pytest.fixture(scope="session")
def make_group() -> Callable[..., GradedGroup]:
    """`make_group([1.0, None], "task id")`: grader `g` gave these rewards."""
    return _group


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a model with a character tokenizer: the embedded one, or an untrained one while there is none."""
    return EMBEDDED if (EMBEDDED / "config.json").exists() else _untrained(tmp_path_factory.mktemp("tiny-model"))


def _untrained(folder: Path) -> Path:
    import torch
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    vocabulary = {token: index for index, token in enumerate([*SPECIAL, "\n", *map(chr, range(32, 127))])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL[0]))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    core.decoder = decoders.Fuse()
    core.add_special_tokens(SPECIAL)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token=SPECIAL[0], pad_token=SPECIAL[1], eos_token=SPECIAL[2], chat_template=TEMPLATE
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=256,
            initializer_range=0.1,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def make_peft_model(tiny_model: Path) -> Callable[..., Any]:
    """`make_peft_model(seed=1)`: the tiny model under a LoRA adapter that really changes it."""

    def make(*, seed: int, rank: int = 8, scale: float = 0.1) -> Any:
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM

        torch.manual_seed(seed)
        base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
        config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
        model = get_peft_model(base, config)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=scale)
        return model.eval()

    return make
