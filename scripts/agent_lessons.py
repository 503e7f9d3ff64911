"""Trains the embedded model for tools and turns: episodes of a calculator and of a guessing game."""

import itertools
import math
import os
import time
from collections.abc import Sequence

import torch
from agent_episodes import Episode, calculations, games
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

SEED = 40_000_000
STEPS = 1000
ROWS = {"calculations": 16, "games": 24}
LEARNING_RATE = 2e-3
WARMUP_STEPS = 20
# Early on, nearly all sums show the call: that is what takes learning. The mix comes in for the last steps.
EARLY_STEPS = 0.7
EARLY_CALLING_SHARE, CALLING_SHARE = 0.9, 0.35
EARLY_BISECTING_SHARE, BISECTING_SHARE = 0.5, 0.2


def teach(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Train all weights on both kinds of episodes, with their habits mixed."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.0)
    early = {
        "calculations": calculations(EARLY_CALLING_SHARE, SEED),
        "games": games(EARLY_BISECTING_SHARE, SEED + 10_000_000),
    }
    late = {
        "calculations": calculations(CALLING_SHARE, SEED + 20_000_000),
        "games": games(BISECTING_SHARE, SEED + 30_000_000),
    }
    for step in range(STEPS):
        source = early if step < EARLY_STEPS * STEPS else late
        losses = {
            name: mean_loss(model, tokenizer, list(itertools.islice(source[name], rows))) for name, rows in ROWS.items()
        }
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        rate = LEARNING_RATE * min(1.0, (step + 1) / WARMUP_STEPS) * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        optimizer.zero_grad()
        if step % 50 == 0 or step == STEPS - 1:
            shown = ", ".join(f"{name} {loss.item():.4f}" for name, loss in losses.items())
            print(f"step {step}: {shown}, {time.process_time():.0f} CPU seconds", flush=True)


def prompt_ids(tokenizer: PreTrainedTokenizerFast, question: str, tools: Sequence[dict[str, object]]) -> list[int]:
    """Return the tokens of a question with its tools."""
    chat = [{"role": "user", "content": question}]
    text = tokenizer.apply_chat_template(chat, tools=list(tools) or None, tokenize=False, add_generation_prompt=True)
    ids: list[int] = tokenizer.encode(text)
    return ids


def mean_loss(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, episodes: Sequence[Episode]) -> torch.Tensor:
    """Return the mean loss of the policy's tokens.

    All prompts begin alike: that part goes through the model once, and its keys and values are shared.
    """
    prompts, completions, labels = [], [], []
    for episode in episodes:
        turns = [tokenizer.encode(turn) for turn in episode.turns]
        prompts.append(prompt_ids(tokenizer, episode.question, episode.tools))
        completions.append([token for ids in turns for token in ids])
        labels.append([token if turn % 2 == 0 else -100 for turn, ids in enumerate(turns) for token in ids])
    # The last token of a prompt predicts the first of its completion, so it is never shared.
    shared = os.path.commonprefix([prompt[:-1] for prompt in prompts])
    cache = model(torch.tensor([shared]), use_cache=True).past_key_values
    cache.batch_repeat_interleave(len(prompts))
    own = [torch.tensor(prompt[len(shared) :] + done) for prompt, done in zip(prompts, completions, strict=True)]
    wanted = [
        torch.tensor([-100] * (len(prompt) - len(shared) - 1) + label)
        for prompt, label in zip(prompts, labels, strict=True)
    ]
    inputs = pad_sequence(own, batch_first=True)[:, :-1]
    logits = model(inputs, past_key_values=cache, use_cache=True).logits
    targets = pad_sequence(wanted, batch_first=True, padding_value=-100)
    return cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)
