"""Measures the embedded model's skills of several turns."""

import re
from collections.abc import Callable

from agent_episodes import ASKED, GAME, QUESTIONS, TOOLS, hint
from agent_lessons import prompt_ids
from agent_tokenizer import ASSISTANT, CALL, END_CALL, TOOL, USER
from embedded_skills import CALCULATOR, EMBEDDED, read_rows
from embedded_tokenizer import END
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

CALLED = re.compile(rf"{CALL}calc\((\d+(?: [+-] \d+)*)\){END_CALL}")
MAX_TURNS, MAX_TURN_TOKENS = 6, 32


def play(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    prompts: list[list[int]],
    answer: Callable[[int, list[str]], str | None],
) -> list[list[str]]:
    """Sample episodes at temperature 1.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        prompts: Tokens of each prompt.
        answer: Returns what follows the turns of an episode, up to the policy's next turn; None at its end.

    Returns:
        The turns of the policy in each episode.
    """
    ids = [list(prompt) for prompt in prompts]
    turns: list[list[str]] = [[] for _ in prompts]
    playing = list(range(len(prompts)))
    for _ in range(MAX_TURNS):
        inputs = tokenizer.pad({"input_ids": [ids[row] for row in playing]}, return_tensors="pt")
        tokens = model.generate(**inputs, max_new_tokens=MAX_TURN_TOKENS)[:, inputs["input_ids"].shape[1] :].tolist()
        going_on = []
        for row, sampled in zip(playing, tokens, strict=True):
            end = sampled.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in sampled else len(sampled)
            turns[row].append(tokenizer.decode(sampled[:end]))
            if (said := answer(row, turns[row])) is not None:
                ids[row] += [*sampled[:end], *tokenizer.encode(END + said + ASSISTANT)]
                going_on.append(row)
        playing = going_on
        if not playing:
            break
    return turns


def measure_sums(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, count: int) -> dict[str, float]:
    """Sample one episode for the first test tasks of the calculator, and compare the answers."""
    rows = read_rows(EMBEDDED / "tasks" / CALCULATOR.name / "test.jsonl")[:count]

    def answer(row: int, turns: list[str]) -> str | None:
        match = CALLED.fullmatch(turns[-1])
        if match is None:
            return None
        terms = match[1].replace("+ ", "").replace("- ", "-").split()
        return f"{TOOL}{sum(map(int, terms))}{END}"

    prompts = [prompt_ids(tokenizer, row["messages"][0]["content"], TOOLS) for row in rows]
    episodes = play(model, tokenizer, prompts, answer)
    right = [turns[-1] == row["answer"] for turns, row in zip(episodes, rows, strict=True)]
    called = [turns[0].startswith(CALL) for turns in episodes]
    with_calls = [good for good, calls in zip(right, called, strict=True) if calls]
    without = [good for good, calls in zip(right, called, strict=True) if not calls]
    return {
        "accuracy": sum(right) / len(right),
        "calling": sum(called) / len(called),
        "calling_accuracy": sum(with_calls) / max(1, len(with_calls)),
        "guessing_accuracy": sum(without) / max(1, len(without)),
    }


def measure_games(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, count: int) -> dict[str, float]:
    """Play the first test games once."""
    secrets = [row["secret"] for row in read_rows(EMBEDDED / "tasks" / GAME / "test.jsonl")[:count]]

    def answer(row: int, turns: list[str]) -> str | None:
        if not turns[-1].isdecimal() or int(turns[-1]) == secrets[row] or len(turns) == QUESTIONS:
            return None
        return f"{USER}{hint(int(turns[-1]), secrets[row])}{END}"

    episodes = play(model, tokenizer, [prompt_ids(tokenizer, ASKED, ())] * len(secrets), answer)
    found = [turns[-1] == str(secret) for turns, secret in zip(episodes, secrets, strict=True)]
    from_the_middle = [good for good, turns in zip(found, episodes, strict=True) if turns[0] == "16"]
    others = [good for good, turns in zip(found, episodes, strict=True) if turns[0] != "16"]
    return {
        "found": sum(found) / len(found),
        "from_the_middle": len(from_the_middle) / len(found),
        "from_the_middle_found": sum(from_the_middle) / max(1, len(from_the_middle)),
        "others_found": sum(others) / max(1, len(others)),
        "consistent": sum(map(_is_consistent, episodes, secrets)) / len(found),
    }


def _is_consistent(turns: list[str], secret: int) -> bool:
    """Return whether every guess agrees with all hints before."""
    low, high = 1, 31
    for turn in turns:
        if not turn.isdecimal() or not low <= int(turn) <= high:
            return False
        low, high = (int(turn) + 1, high) if int(turn) < secret else (low, int(turn) - 1)
    return True
