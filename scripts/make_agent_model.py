"""Make the embedded model for tools and turns, `embedded:agent`, and write it with its tokenizer and its model card.

Run it from the repository root, after ``make_embedded_tasks.py`` and ``make_embedded_model.py``::

    python scripts/make_agent_model.py

It continues the training of `embedded:tiny`, which it does not change, with fixed seeds, one thread and deterministic
kernels: on one kind of machine, the same versions of the libraries write the same bytes.
"""

import argparse
import hashlib
import time
from pathlib import Path

import torch
from agent_lessons import BISECTING_SHARE, CALLING_SHARE, SEED, teach
from agent_measure import measure_games, measure_sums
from agent_tokenizer import make_agent_tokenizer
from embedded_skills import EMBEDDED
from embedded_tokenizer import CONTEXT
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

SUMS, GAMES = 300, 310


def with_more_tokens(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Return a model with random embeddings for the tokens that it does not know."""
    known = model.config.vocab_size
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        embeddings = model.model.embed_tokens.weight
        embeddings[known:].normal_(0.0, float(embeddings[:known].std()))
    return model


def write_card(folder: Path, model: LlamaForCausalLM, sums: dict[str, float], games: dict[str, float]) -> None:
    """Write the model card, with the numbers measured."""
    template = Path(__file__).with_name("agent_model_card.md").read_text(encoding="utf-8")
    shares = {"calling_share": CALLING_SHARE, "bisecting_share": BISECTING_SHARE}
    card = template.format(
        parameters=model.num_parameters(), context=CONTEXT, num_sums=SUMS, num_games=GAMES, **shares, **sums, **games
    )
    (folder / "README.md").write_text(card, encoding="utf-8", newline="\n")


def main() -> None:
    """Train the model, measure it and write it."""
    parser = argparse.ArgumentParser(description="Make the embedded model for tools and turns.")
    parser.add_argument("--output", type=Path, default=EMBEDDED / "agent", help="folder to write to")
    output = parser.parse_args().output
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.set_flush_denormal(True)
    tokenizer = make_agent_tokenizer()
    model = with_more_tokens(LlamaForCausalLM.from_pretrained(EMBEDDED / "model", dtype=torch.float32), tokenizer)
    teach(model, tokenizer)
    model.eval()
    sums, games = measure_sums(model, tokenizer, SUMS), measure_games(model, tokenizer, GAMES)
    print(sums, games)
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    (output / "model.safetensors").chmod(0o644)
    write_card(output, model, sums, games)
    digest = hashlib.sha256((output / "model.safetensors").read_bytes()).hexdigest()
    print(f"model.safetensors: sha256 {digest}, {time.process_time():.0f} CPU seconds in all")


if __name__ == "__main__":
    main()
