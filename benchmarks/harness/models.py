"""Generates base models from seeds and sizes: the same bytes for every arm, on any machine, without a download."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

EMBEDDED = Path(__file__).parents[2] / "rft" / "embedded"
TINY = EMBEDDED / "model"
SUMS = EMBEDDED / "tasks" / "chain_sum" / "train.jsonl"

MEDIUM_SEED = 20_000_000
MEDIUM_MEAN_TOKENS = 100
"""Mean length of an uncut completion of the medium model."""
_STEADY = 8.0
"""Constant value of the hidden state's first entry."""


def make_medium(folder: Path) -> Path:
    """Write a Llama with 10.7M random weights, whose completions end at each token with a chance of about 1 in 100.

    Its lengths are therefore geometrically distributed, as uneven as those of a reasoning model, and hardly depend on
    the text. For this purpose, the first entry of the hidden state is the same for all tokens, and no layer writes it.
    The end-of-sequence row of the output matrix reads only this entry, and the other rows do not read it.

    Args:
        folder: Folder of the model; an existing model is kept.
    """
    if (folder / "model.safetensors").exists():
        return folder
    import torch
    from transformers import AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(TINY)
    torch.manual_seed(MEDIUM_SEED)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=384,
            intermediate_size=1024,
            num_hidden_layers=6,
            num_attention_heads=6,
            num_key_value_heads=6,
            max_position_embeddings=512,
            initializer_range=0.05,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 0] = _STEADY
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight[0] = 0.0
            layer.mlp.down_proj.weight[0] = 0.0
        output = model.lm_head.weight
        output[:, 0] = 0.0
        output[tokenizer.eos_token_id] = 0.0
        # No other special token is sampled, so only the end-of-sequence token ends a completion.
        for token in set(tokenizer.all_special_ids) - {tokenizer.eos_token_id}:
            output[token] = 0.0
            output[token, 0] = -100.0
        output[tokenizer.eos_token_id, 0] = _eos_weight(model, tokenizer)
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _eos_weight(model: Any, tokenizer: Any) -> float:
    """Return the weight for which the end-of-sequence token has the desired mean probability on random text."""
    import torch

    text = torch.randint(10, len(tokenizer), (16, 64))
    state = model.model(text).last_hidden_state
    steady = float(state[..., 0].mean())
    others = torch.logsumexp(model.lm_head(state)[..., [t for t in range(len(tokenizer)) if t != 2]], dim=-1).mean()
    log_odds = torch.log(torch.tensor(1.0 / (MEDIUM_MEAN_TOKENS - 1)))
    return float((others + log_odds) / steady)


def make_random(folder: Path, shape: Mapping[str, int]) -> Path:
    """Make a Llama with random weights and the embedded model's tokenizer, in float32.

    Args:
        folder: The folder to write.
        shape: Values of `hidden`, `intermediate`, `layers`, `heads`, `kv_heads` and `vocabulary`.
    """
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(TINY)
    torch.manual_seed(MEDIUM_SEED)
    config = LlamaConfig(
        vocab_size=shape["vocabulary"],
        hidden_size=shape["hidden"],
        intermediate_size=shape["intermediate"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["kv_heads"],
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


QWEN2_5: Mapping[str, Mapping[str, int | bool]] = {
    "0.5B": {"hidden": 896, "intermediate": 4864, "layers": 24, "heads": 14, "kv_heads": 2, "tied": True},
    "1.5B": {"hidden": 1536, "intermediate": 8960, "layers": 28, "heads": 12, "kv_heads": 2, "tied": True},
    "7B": {"hidden": 3584, "intermediate": 18944, "layers": 28, "heads": 28, "kv_heads": 4, "tied": False},
}
"""Sizes of Qwen2.5, from its technical report (arXiv 2412.15115, table 1) and model cards."""
QWEN_VOCABULARY = 151_936
DRY_VOCABULARY = 2_048
DRY_NUMBERS: Mapping[str, int] = {"hidden": 128, "intermediate": 256, "layers": 2, "heads": 4, "kv_heads": 2}
"""Sizes of a dry model."""


def make_qwen(folder: Path, shape: str, *, dry: bool, top_logit: float | None = None) -> Path:
    """Write a Qwen2.5 with random weights in bfloat16; a dry one is small, and in float32.

    The logit of its end-of-sequence token is far below all others. Every completion is therefore cut, at the same
    length in every engine. The tokenizer merges nothing: each letter is a token.

    Args:
        folder: Folder of the model; an existing model is kept.
        shape: A key of `QWEN2_5`.
        dry: Whether to shrink the model for a trial on a CPU.
        top_logit: Mean of the largest logit on random text, to which the weight of the last norm is scaled. With the
            initial weights it is about 2.6, and rounding to 16 bits changes log-probabilities less than in a trained
            model. None keeps the initial weights.
    """
    if (folder / "tokenizer.json").exists():
        return folder
    import torch
    from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM

    numbers = {**QWEN2_5[shape], **(DRY_NUMBERS if dry else {})}
    vocabulary = DRY_VOCABULARY if dry else QWEN_VOCABULARY
    end = vocabulary - 1
    torch.manual_seed(MEDIUM_SEED)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"), torch.no_grad():
        model = Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=vocabulary,
                hidden_size=numbers["hidden"],
                intermediate_size=numbers["intermediate"],
                num_hidden_layers=numbers["layers"],
                num_attention_heads=numbers["heads"],
                num_key_value_heads=numbers["kv_heads"],
                tie_word_embeddings=numbers["tied"],
                max_position_embeddings=4096,
                bos_token_id=None,
                eos_token_id=end,
                pad_token_id=0,
            )
        )
        _never_end(model, end)
        if top_logit is not None:
            logits = model(torch.randint(end, (4, 32))).logits
            model.model.norm.weight.mul_(top_logit / logits.amax(-1).mean())
    model.generation_config = GenerationConfig(
        do_sample=True, temperature=1.0, top_k=0, top_p=1.0, eos_token_id=end, pad_token_id=0
    )
    model.to(torch.float32 if dry else torch.bfloat16).save_pretrained(folder)
    _save_letters(folder, vocabulary)
    return folder


def _never_end(model: Any, end: int) -> None:
    """Give a token a logit far below all others.

    The first layer's attention writes a constant to the first entry of the hidden state, no other layer writes there,
    and the output matrix reads that entry for this token alone.
    """
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight[0] = 0.0
        layer.mlp.down_proj.weight[0] = 0.0
    attention = model.model.layers[0].self_attn
    attention.v_proj.weight[0] = 0.0
    attention.v_proj.bias[0] = 1.0
    attention.o_proj.weight[0, 0] = _STEADY
    model.model.embed_tokens.weight[:, 0] = 0.0
    model.lm_head.weight[:, 0] = 0.0
    model.lm_head.weight[end, 0] = -10.0


def _save_letters(folder: Path, vocabulary: int) -> None:
    """Write the tokenizer of `make_qwen`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*letters, *(f"t{number}" for number in range(len(letters), vocabulary - 1)), "<end>"]
    core = Tokenizer(models.BPE({name: number for number, name in enumerate(names)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>", pad_token=letters[0])
    tokenizer.chat_template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    tokenizer.save_pretrained(folder)


def write_prompts(file: Path, *, num_tasks: int, tokens: int) -> Path:
    """Write a task file of random prompts, each with exactly `tokens` tokens of a model of `make_qwen`."""
    draws = random.Random(MEDIUM_SEED)
    with file.open("w", encoding="utf-8") as lines:
        for _ in range(num_tasks):
            text = "".join(draws.choices(string.ascii_lowercase, k=tokens))
            lines.write(json.dumps({"messages": [{"role": "user", "content": text}]}) + "\n")
    return file
