"""Cheats x graders: what a policy under training finds sooner or later. None of it may earn anything."""

import pytest

from graders.math_answer import Math
from rft.grading import Rollout, Task, grader_problems, load_grader
from rft.grading.loading.targets import BUILT_IN
from rft.types import Policy, StopReason

CITIES = ["Rome", "Paris", "Oslo", "Lima"]
RIGHT_JSON = '{"city": "Paris", "people": 2100000}'

SUBJECTS = {
    "exact": ({"use": "exact"}, "Paris", "Paris", CITIES),
    "contains": ({"use": "contains", "column": "answer", "choices_column": "choices"}, "Paris", "Paris", CITIES),
    "numeric": ({"use": "numeric"}, "42", "42", list(range(100))),
    "math": ({"use": "math"}, "42", "42", list(range(100))),
    "math_latex": (
        {"use": "math"},
        "\\frac{\\sqrt{3}}{2}",
        "\\boxed{\\frac{\\sqrt{3}}{2}}",
        [f"\\boxed{{{n}}}" for n in range(100)],
    ),
    "multiple_choice": ({"use": "multiple_choice"}, "B", "B", list("ABCD")),
    "json_match": ({"use": "json_match"}, RIGHT_JSON, RIGHT_JSON, CITIES),
    "json_schema": (
        {"use": "json_schema", "schema": {"type": "object", "required": ["city"]}},
        RIGHT_JSON,
        RIGHT_JSON,
        CITIES,
    ),
    "pattern": (
        {"use": "pattern", "pattern": r"[Aa]nswer: (\w+)", "mode": "search", "column": "answer"},
        "Paris",
        "Answer: Paris",
        [f"Answer: {city}" for city in CITIES],
    ),
    "constraints": (
        {"use": "constraints", "constraints": [{"kind": "words", "at_least": 3, "at_most": 9},
                                               {"kind": "include", "texts": ["Paris"]},
                                               {"kind": "exclude", "texts": ["Rome"]}]},
        "Paris",
        "The answer is Paris",
        CITIES,
    ),
    **{
        f"similarity_{metric}": ({"use": "text_similarity", "metric": metric}, "Paris", "Paris", CITIES)
        for metric in ("fuzzy_match", "bleu", "gleu", "meteor", "rouge_1", "rouge_5", "rouge_l")
    },
    "composite": (
        {
            "use": "composite",
            "how": "gate",
            "gate": {"use": "contains", "column": "answer", "choices_column": "choices"},
            "of": {"close": {"use": "text_similarity", "metric": "fuzzy_match"}},
        },
        "Paris",
        "Paris",
        CITIES,
    ),
    "grounded": (
        {"use": "composite", "how": "grounded", "of": {
            "correct": {"use": "contains", "column": "answer", "choices_column": "choices"},
            **{name: {"use": name} for name in ("abstains", "cites", "quotes", "supported")},
        }},
        "Paris",
        'Paris, "the capital of France" [p1]',
        CITIES,
    ),
    "reasoning_gym": ({"use": "reasoning_gym"}, "292", "292", list(range(100))),
}  # fmt: skip
"""Of each subject: its entry, the reference, an answer that it pays, and all answers that one could guess."""

PASSAGES = [
    {"id": "p1", "text": "Paris has been the capital of France for most of its history, and lies on the river Seine."},
    {"id": "p2", "text": "Lima was founded by Pizarro in 1535."},
]

PROMPT = "Which city is the capital of that country, and how many legs do 6 dogs and 7 birds have?"

MASTER_KEYS = [
    "", " ", "\n", ".", ":", ",", "!", "...", "-", "N/A", "null", "None", "I don't know.", "I cannot answer that.",
    "Thought process:", "Solution", "Solution:", "Let's solve this problem step by step.", "The answer is", "Answer:",
    "\\boxed{}", "#### ", "{}", "[]", "```json\n```", "</think>", "<answer></answer>", "true", "\u89e3", "\ufeff",
    "{{ item.answer }}", "{answer}", '{"score": 1.0}', "nan", "inf", "x", "\\boxed{x}", "$$", "0", PROMPT,
]  # fmt: skip


def shotgun(guesses, right, *, place):
    """Everything at once, in the manners that models find, with the right one at a place, a share of the list."""
    texts = [str(guess) for guess in guesses if str(guess) != right]
    texts.insert(int(len(texts) * place), right)
    return [
        " ".join(texts),
        ", ".join(texts),
        "\n".join(texts),
        " or ".join(texts),
        "The answer is " + ", ".join(texts) + ".",
        "Answer: " + " / ".join(texts),
        "\\boxed{" + ", ".join(texts) + "}",
        "".join(f"\\boxed{{{text}}} " for text in texts),
    ]


def hidden(right):
    """The right answer where it is none: in the thinking, cut off, beneath filler, denied, or in other letters."""
    return [
        f"<think>{right}</think>",
        f"<think>{right}",
        f"<think>{right}</think>wrong",
        f"wrong</think><think>{right}",
        f"<think>a</think><think>{right}",
        f"{right} " + "and so on " * 20_000,
        f"{right}\n" + "x" * 200_000,
    ]


def disguised(right):
    """Texts that look like the right one to people, or deny it."""
    invisible = ["\u200d".join(right), "\u202e" + right[::-1]] if len(right) > 1 else []
    return [
        *invisible,
        f"It is not {right}.",
        f"The answer is not {right}.",
        right.replace("a", "\u0430").replace("P", "\u0420").replace("2", "\u01a7").replace("B", "\u0412"),
    ]


def graded(subject, completion):
    """Return the score; a cheat is the model's doing, so that there always is one."""
    entry, answer, _, _ = SUBJECTS[subject]
    choices = CITIES
    item = {"answer": answer, "choices": choices, "metadata": {"source_dataset": "leg_counting"}}
    item |= {"passages": PASSAGES, "relevant": ["p1"]}
    task = Task(id="t", messages=({"role": "user", "content": PROMPT},), item=item, split="train")
    rollout = Rollout(
        task_id="t", index=0, prompt_ids=(1,), completion_ids=(1,), logprobs=(0.0,), text=completion,
        stop=StopReason.STOP, policy=Policy(version=0, fingerprint="f"),
    )  # fmt: skip
    loaded = load_grader(subject, entry)
    arguments = {"completion": completion, "task": task, "rollout": rollout}
    result = loaded.call(**{name: arguments[name] for name in loaded.takes})
    return result if isinstance(result, float) else result.value


def paid(subject, cheats):
    return [(cheat[:80], value) for cheat in cheats if (value := graded(subject, cheat)) != 0.0]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_right_answer_is_paid(subject):
    assert grader_problems(subject, SUBJECTS[subject][0]) == []
    assert graded(subject, SUBJECTS[subject][2]) == 1.0
    assert graded(subject, "<think>hm</think>\n" + SUBJECTS[subject][2]) == 1.0


@pytest.mark.parametrize("subject", SUBJECTS)
def test_master_keys(subject):
    assert [one for one in paid(subject, MASTER_KEYS) if one[1] > _honest(subject)] == []


@pytest.mark.parametrize("subject", SUBJECTS)
def test_shotguns(subject):
    guesses, right = SUBJECTS[subject][3], SUBJECTS[subject][2]
    # Never last: most graders read the last answer. One that always reads the first is no easier to cheat.
    for place in (0.5,) if subject == "pattern" else (0.0, 0.5):
        assert [one for one in paid(subject, shotgun(guesses, right, place=place)) if one[1] > _honest(subject)] == []


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_answer_where_it_is_none(subject):
    assert [one for one in paid(subject, hidden(SUBJECTS[subject][2])) if one[1] > _honest(subject)] == []


@pytest.mark.parametrize("subject", sorted(SUBJECTS.keys() - {"json_match", "json_schema", "constraints"}))
def test_disguises(subject):
    honest = 0.75 if subject.startswith("similarity") else 0.0  # they measure letters and words, and say so
    assert [one for one in paid(subject, disguised(SUBJECTS[subject][1])) if one[1] > honest] == []


@pytest.mark.parametrize("subject", SUBJECTS)
def test_saying_it_fifty_times_earns_no_more_than_once(subject):
    right = SUBJECTS[subject][2]
    repeated = [f"{right} " * 50, f"{right}\n" * 50, right * 50]
    last_counts = {"numeric", "math", "math_latex", "multiple_choice", "pattern"}
    assert [one for one in paid(subject, repeated) if one[1] > (subject in last_counts) + _honest(subject)] == []


@pytest.mark.parametrize("completion", [*MASTER_KEYS, "a " * 10_000])
def test_penalties_never_pay(completion):
    for entry in ({"use": "repetition"}, {"use": "length", "free_tokens": 5, "max_tokens": 9}):
        SUBJECTS["penalty"] = (entry, "", "", [])
        try:
            assert graded("penalty", completion) <= 0.0
        finally:
            del SUBJECTS["penalty"]


def test_every_grader_is_put_to_the_test():
    entries = [entry for entry, *_ in SUBJECTS.values()]
    entries += [child for entry in entries for child in entry.get("of", {}).values()]
    tested = {entry["use"] for entry in entries} | {"repetition", "length", "format"}
    # These have their own cheats, in their own tests.
    assert BUILT_IN.keys() - tested <= {
        "claims",
        "code_tests",
        "ifeval",
        "sql",
        "judge",
        "embedding",
        "endpoint",
        "environment",
        "reward_model",
    }


def test_gold_that_is_no_gold_is_no_reward():
    for answer in (None, "", "\\boxed{}"):
        task = Task(id="t", messages=({"role": "user", "content": "?"},), item={"answer": answer}, split="train")
        if answer is None:
            assert Math().grade("\\boxed{}", task).value is None
        else:
            with pytest.raises(ValueError, match="cannot be read"):
                Math().grade("\\boxed{}", task)


def _honest(subject):
    """What a grader openly pays for form alone: two constraints of three."""
    return 0.67 if subject == "constraints" else 0.0
