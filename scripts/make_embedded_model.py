"""Train the tiny base model that ships in the package, and write it with its tokenizer and its model card.

Run it from the repository root, after ``make_embedded_tasks.py``::

    python scripts/make_embedded_model.py

The model is a character-level Llama with two habits. For a share of its answers it works the question out first
(``<think>47+15:7+5=12,4+1+1=6</think>62``) and is then nearly always right; otherwise it answers at once, with a
guess of the right form that is nearly always wrong. Reinforcement fine-tuning can therefore teach it something real
within a minute on a laptop: to think before it answers.

It trains on fresh reasoning-gym items, never on a question of the validation or test splits. Seeds and the number of
threads are fixed and only deterministic kernels are used: on one kind of machine, the same versions of the libraries
write the same bytes.
"""

import argparse
import hashlib
import itertools
import math
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from embedded_skills import EMBEDDED, FAMILIES, WORK, Family, draw, read_rows, score
from embedded_tokenizer import CONTEXT, END, END_THINK, SPECIAL, THINK, make_tokenizer
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SEED = 20_000_000
THREADS = 2
STEPS = 1200
ROWS_PER_FAMILY = {"chain_sum": 32, "gcd": 16, "count_bits": 10, "spell_backward": 18}
LEARNING_RATE = 5e-3
WARMUP_STEPS = 30
# Early on, nearly all rows show the working: that is what takes learning. The mix comes in for the last steps.
EARLY_STEPS = 0.8
EARLY_THINKING_SHARE = 0.9
THINKING_SHARE = 0.35
SYSTEM_SHARE = 0.15
TEST_TASKS = 200


def make_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Make the untrained model."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=352,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=CONTEXT,
            rope_parameters={"rope_type": "default", "rope_theta": 100.0},
            initializer_range=0.08,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def make_examples(family: Family, thinking_share: float, seed: int) -> Iterator[tuple[str, str]]:
    """Yield questions and completions of a family, with the two habits mixed; none from validation or test."""
    folder = EMBEDDED / "tasks" / family.name
    rows = [row for split in ("validation", "test") for row in read_rows(folder / f"{split}.jsonl")]
    held_out = {row["messages"][-1]["content"] for row in rows}
    choices = random.Random(seed)
    previous = None
    for item in draw(family, seed):
        if item["question"] in held_out:
            continue
        answer = item["answer"]
        if choices.random() < thinking_share:
            yield item["question"], f"{THINK}{WORK[family.name](item['metadata'])}{END_THINK}{answer}{END}"
        elif family.name == "spell_backward":
            yield item["question"], "".join(choices.sample(answer, len(answer))) + END
        elif previous is not None:
            yield item["question"], previous + END
        previous = answer


def completion_loss(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, examples: list[tuple[str, str]], system: str
) -> tuple[torch.Tensor, int]:
    """Return the summed loss of the completions and their number of tokens.

    All questions of a family begin alike: that part goes through the model once, and its keys and values are shared.
    """
    start = [{"role": "system", "content": system}] if system else []
    prompts = []
    for question, _ in examples:
        messages = [*start, {"role": "user", "content": question}]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        prompts.append(tokenizer.encode(text))
    completions = [tokenizer.encode(completion) for _, completion in examples]
    shared = os.path.commonprefix(prompts)
    cache = model(torch.tensor([shared]), use_cache=True).past_key_values
    cache.batch_repeat_interleave(len(examples))
    own = [torch.tensor(prompt[len(shared) :] + done) for prompt, done in zip(prompts, completions, strict=True)]
    labels = [
        torch.tensor([-100] * (len(prompt) - len(shared) - 1) + done)
        for prompt, done in zip(prompts, completions, strict=True)
    ]
    inputs = pad_sequence(own, batch_first=True)[:, :-1]
    logits = model(inputs, past_key_values=cache, use_cache=True).logits
    targets = pad_sequence(labels, batch_first=True, padding_value=-100)
    loss = cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="sum")
    return loss, sum(map(len, completions))


def train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Train all weights on the mixed habits of all families."""
    # Muon learns to copy from the question about four times as fast as AdamW here; it is for matrices only.
    embedding = model.model.embed_tokens.weight
    matrices = [weight for weight in model.parameters() if weight.ndim == 2 and weight is not embedding]
    others = [weight for weight in model.parameters() if weight.ndim != 2 or weight is embedding]
    optimizers = [
        torch.optim.Muon(matrices, lr=LEARNING_RATE, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    seeds = itertools.count(SEED, 10_000_000)
    early = {family.name: make_examples(family, EARLY_THINKING_SHARE, next(seeds)) for family in FAMILIES}
    late = {family.name: make_examples(family, THINKING_SHARE, next(seeds)) for family in FAMILIES}
    choices = random.Random(SEED)
    words = [item["metadata"]["word"] for item in itertools.islice(draw(FAMILIES[-1], SEED), 1000)]
    for step in range(STEPS):
        source = early if step < EARLY_STEPS * STEPS else late
        loss, tokens = torch.zeros(()), 0
        for name, rows in ROWS_PER_FAMILY.items():
            system = " ".join(choices.sample(words, choices.randint(1, 10))) if choices.random() < SYSTEM_SHARE else ""
            part, part_tokens = completion_loss(model, tokenizer, list(itertools.islice(source[name], rows)), system)
            loss, tokens = loss + part, tokens + part_tokens
        (loss / tokens).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        rate = LEARNING_RATE * min(1.0, (step + 1) / WARMUP_STEPS) * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = rate
            optimizer.step()
            optimizer.zero_grad()
        if step % 50 == 0 or step == STEPS - 1:
            print(f"step {step}: loss {loss.item() / tokens:.4f}, {time.process_time():.0f} CPU seconds", flush=True)


def measure(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, family: Family) -> dict[str, float]:
    """Sample one completion at temperature 1 for the first test tasks of a family, and score them."""
    rows = read_rows(EMBEDDED / "tasks" / family.name / "test.jsonl")[:TEST_TASKS]
    prompts = [
        tokenizer.apply_chat_template(row["messages"], tokenize=False, add_generation_prompt=True) for row in rows
    ]
    inputs = tokenizer(prompts, return_tensors="pt", padding=True)
    tokens = model.generate(**inputs, max_new_tokens=64)[:, inputs["input_ids"].shape[1] :]
    texts = tokenizer.batch_decode(tokens, skip_special_tokens=True)
    right = [score(row, text.rpartition(END_THINK)[2].strip()) >= 0.999 for row, text in zip(rows, texts, strict=True)]
    thought = [text.startswith(THINK) for text in texts]
    by_habit = {
        habit: [good for good, thinks in zip(right, thought, strict=True) if thinks == habit] for habit in (True, False)
    }
    return {
        "accuracy": sum(right) / len(right),
        "thinking": sum(thought) / len(thought),
        "thinking_accuracy": sum(by_habit[True]) / max(1, len(by_habit[True])),
        "guessing_accuracy": sum(by_habit[False]) / max(1, len(by_habit[False])),
        "tokens": max(map(len, tokenizer(texts)["input_ids"])) + 1,
    }


def write_card(
    folder: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, results: dict[str, dict[str, float]]
) -> None:
    """Write the model card, with the numbers measured."""
    config = model.config
    shares = ("accuracy", "thinking", "thinking_accuracy", "guessing_accuracy")
    table = [
        " | ".join(
            [f"| {family.name}", family.skill]
            + [f"{results[family.name][share]:.2f}" for share in shares]
            + [f"{results[family.name]['tokens']} |"]
        )
        for family in FAMILIES
    ]
    template = Path(__file__).with_name("embedded_model_card.md").read_text(encoding="utf-8")
    card = template.format(
        parameters=model.num_parameters(),
        share=THINKING_SHARE,
        count=TEST_TASKS,
        table="\n".join(table),
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        head_size=config.head_dim,
        context=CONTEXT,
        special=", ".join(f"`{token}`" for token in SPECIAL),
    )
    (folder / "README.md").write_text(card, encoding="utf-8", newline="\n")


def main() -> None:
    """Train the model, measure it and write it."""
    parser = argparse.ArgumentParser(description="Train the tiny base model that ships in the package.")
    parser.add_argument("--output", type=Path, default=EMBEDDED / "model", help="folder to write to")
    output = parser.parse_args().output
    torch.set_num_threads(THREADS)
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.set_flush_denormal(True)
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    train(model, tokenizer)
    # Neutral settings in full: nothing that loads the model then samples from anything but its own distribution.
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.eval()
    results = {family.name: measure(model, tokenizer, family) for family in FAMILIES}
    for name, result in results.items():
        print(name, ", ".join(f"{measured} {value:g}" for measured, value in result.items()))
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    (output / "model.safetensors").chmod(0o644)
    write_card(output, model, tokenizer, results)
    digest = hashlib.sha256((output / "model.safetensors").read_bytes()).hexdigest()
    print(f"model.safetensors: sha256 {digest}, {time.process_time():.0f} CPU seconds in all")


if __name__ == "__main__":
    main()
