"""As in verifiers' documents: rubric functions, which get what they name."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import verifiers as vf  # noqa: F401 - the import declares the system


def correct_answer(completion, answer) -> float:
    response = completion[-1]["content"]
    return 1.0 if answer in response else 0.0


async def parsed_answer(parser, completion, answer):
    return 1.0 if (parser.parse_answer(completion) or "") == answer else 0.0


def from_state(state, info, **kwargs):
    return float(state["completion"][-1]["content"] == state["answer"] and info["level"] == 3)


def relative_length(completions, answers, states):
    lengths = [len(completion[-1]["content"]) for completion in completions]
    return [length / max(lengths) for length in lengths]
