"""Each system's functions, as its documents show them, graded unchanged by way of a grader's entry."""

import asyncio
import inspect
from dataclasses import replace
from pathlib import Path

import pytest

from rft.errors import ConfigError
from rft.grading import load_grader
from rft.grading.normalise import to_score, to_scores
from rft.imports import is_installed
from rft.types import Policy, Rollout, Status, StopReason, Task

FOREIGN = Path(__file__).parent / "foreign"

CHAT = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2 = ?"})


def task(messages=CHAT, **item):
    return Task(id="t7", messages=messages, item=item, split="train")


def rollout(text, index=0, stop=StopReason.STOP):
    ids = tuple(range(len(text)))
    return Rollout(
        task_id="t7",
        index=index,
        prompt_ids=(1,),
        completion_ids=ids,
        logprobs=(0.0,) * len(ids),
        text=text,
        stop=stop,
        policy=Policy(version=0, fingerprint="f"),
    )


def scores(function, given, *texts, stop=StopReason.STOP, **entry):
    """Load `file.py:function` of the folder and grade texts with it, as the panel would."""
    grader = load_grader("g", {"use": f"{FOREIGN}/{function}", **entry})
    rollouts = [rollout(text, index, stop) for index, text in enumerate(texts)]

    def call(some):
        pool = {
            "task": given,
            "completion": some[0].text,
            "rollout": some[0],
            "completions": [one.text for one in some],
            "rollouts": some,
        }
        result = grader.call(**{name: pool[name] for name in grader.takes})
        return asyncio.run(_awaited(result)) if inspect.isawaitable(result) else result

    if grader.per_group:
        return to_scores(call(rollouts), len(rollouts))
    return [to_score(call([one])) for one in rollouts]


async def _awaited(result):
    return await result


def values(*arguments, **options):
    return [score.value for score in scores(*arguments, **options)]


BOXED = r"so \boxed{4}"


@pytest.mark.parametrize(
    ("function", "item", "texts", "expected"),
    [
        ("trl_rewards.py:reward_func trl", {}, ["a", "bcd"], [1.0, 3.0]),
        ("trl_rewards.py:format_reward_func trl_chat", {}, ["<think>a</think><answer>4</answer>", "4"], [1.0, 0.0]),
        ("trl_rewards.py:ground_truth_reward trl", {"ground_truth": "4"}, [BOXED, r"\boxed{5}"], [1.0, 0.0]),
        ("trl_rewards.py:math_reward_func trl", {"task": "math"}, ["4", "5"], [1.0, -1.0]),
        ("trl_rewards.py:math_reward_func trl", {"task": "code"}, ["4", "5"], [None, None]),
        ("trl_rewards.py:async_reward_func trl", {}, ["Be brief.\n\n2 + 2 = ? 4", "4"], [1.0, 0.0]),
        ("trl_rewards.py:token_count", {}, ["four", ""], [4.0, 0.0]),
        ("verl_rewards.py:my_reward_fn", {"answer": "4"}, ["4" * 25], [0.25]),
        ("verl_rewards.py:compute_score", {"ground_truth": "4"}, ["#### 4", "#### 5", "4"], [1.0, 0.0, 0.0]),
        (
            "verl_rewards.py:with_details",
            {
                "data_source": "openai/gsm8k",
                "reward_model": {"style": "rule", "ground_truth": "4"},
                "extra_info": {"split": "train"},
                "answer": "not this one",
            },
            ["it is 4", "it is 5"],
            [1.0, 0.0],
        ),
        ("verl_rewards.py:batched", {"answer": "4"}, ["4", "5"], [1.0, 0.0]),
        pytest.param(
            "openrlhf_rewards.py:reward_func",
            {"label": "4"},
            ["4", "5"],
            [1.0, 0.0],
            marks=pytest.mark.skipif(not is_installed("torch"), reason="the function returns tensors of torch"),
        ),
        ("openrlhf_rewards.py:listed", {"answer": "4"}, ["= 4", "5"], [1.0, 0.0]),
        ("verifiers_rubric.py:correct_answer", {"answer": "4"}, ["it is 4", "5"], [1.0, 0.0]),
        ("swift_orms.py:Exact trl", {"solution": "4"}, ["4", "5"], [1.0, 0.0]),
        ("areal_rewards.py:gsm8k_reward_fn", {"answer": "4"}, ["4", "it is 4", "5"], [1.0, 1.0, 0.0]),
        ("verl_rewards.py:pair", {"reward_model": {"ground_truth": "4"}}, ["4", "5"], [1.0, 0.0]),
        ("verifiers_rubric.py:from_state", {"answer": "4", "info": {"level": 3}}, ["4", "5"], [1.0, 0.0]),
        ("verifiers_rubric.py:relative_length", {"answer": "4"}, ["4", "four"], [0.25, 1.0]),
        ("verifiers_v1.py:correct", {"answer": "4"}, [" 4\n", "5"], [1.0, 0.0]),
        ("verifiers_v1.py:several", {}, ["4", "forty"], [0.75, 0.5]),
        ("eval_protocol_rewards.py:exact_match_reward", {"answer": "4"}, ["4", "5"], [1.0, 0.0]),
        (
            "aws_lambda.py:lambda_handler aws_lambda",
            {"reference_answer": "4"},
            ["4", "<think>x</think>4", "5"],
            [1.0, 1.0, 0.0],
        ),
        ("google_rewards.py:evaluate", {"references": {"concise_answer": "4"}}, ["4", "5"], [1.0, -1.0]),
        ("google_rewards.py:evaluate", {"concise_answer": 4}, ["4", "5"], [1.0, -1.0]),
        ("openai_graders.py:grade", {"reference": "4"}, ["<think>5</think> 4", "5"], [1.0, 0.0]),
        ("inspect_scorers.py:includes", {"target": ["four", "4"]}, ["it is Four", "5"], [1.0, 0.0]),
        ("inspect_scorers.py:includes", {"answer": 4}, ["it is 4", "5"], [1.0, 0.0]),
        ("others.py:plain", {}, ["four"], [4.0]),
    ],
)
def test_functions_are_used_unchanged(function, item, texts, expected):
    use, _, style = function.partition(" ")
    assert values(use, task(**item), *texts, **({"style": style} if style else {})) == expected


def test_styles_that_must_be_named():
    single = values("aws_lambda.py:single_handler", task(answer="4"), "4", "5", style="aws_lambda_single")
    assert single == [1.0, 0.0]
    dataset = values("others.py:dataset", task(answer="10"), "<answer>10</answer>", "1000", style="reasoning_gym")
    assert dataset == [1.0, 0.5]


def test_predibase_gets_the_row_with_its_prompt():
    given = task(messages=CHAT[1:], target="4")
    graded = values("predibase_rewards.py:format_reward_func", given, "<answer>4</answer>", "4", style="predibase")
    assert graded == [1.0, 0.0]


def test_an_option_of_the_function_can_be_set():
    given = task(ground_truth="4")
    assert values("verl_rewards.py:compute_score", given, "#### 5", format_score=0.25) == [0.25]


def test_a_wrong_style_is_a_grader_error():
    grader = load_grader("g", {"use": f"{FOREIGN}/trl_rewards.py:format_reward_func", "style": "trl"})
    with pytest.raises(TypeError):  # a grader error, not a zero
        grader.call(task=task(), completions=["4"], rollouts=[rollout("4")])


@pytest.mark.parametrize(
    ("letter", "value", "status"),
    [("C", 1.0, Status.OK), ("P", 0.5, Status.OK), ("I", 0.0, Status.OK), ("N", 0.0, Status.NO_ANSWER)],
)
def test_inspect_letters(letter, value, status):
    (score,) = scores("inspect_scorers.py:letters", task(target=letter), "x")
    assert (score.value, score.status) == (value, status)


@pytest.mark.parametrize("word", ["D", "1.0", "true", ""])
def test_other_words_of_a_scorer_are_errors(word):
    (score,) = scores("inspect_scorers.py:letters", task(target=word), "x")
    assert score.status is Status.GRADER_ERROR


def test_what_is_not_scored_has_no_value_and_whom_to_blame():
    (refused,) = scores("inspect_scorers.py:unscored", task(target="refusal"), "x")
    assert (refused.status, refused.reason) == (Status.SKIPPED, "refusal")
    (failed,) = scores("inspect_scorers.py:unscored", task(target="grader_failed"), "x")
    assert (failed.status, failed.reason) == (Status.GRADER_ERROR, "grader_failed")
    (broken,) = scores("eval_protocol_rewards.py:exact_match_reward", task(answer="broken"), "x")
    assert (broken.status, broken.reason) == (Status.GRADER_ERROR, "the judge is down")
    (missing,) = scores("eval_protocol_rewards.py:exact_match_reward", task(), "x")
    assert (missing.status, missing.reason) == (Status.SKIPPED, "no reference")


def test_a_reason_is_kept():
    (score,) = scores("eval_protocol_rewards.py:exact_match_reward", task(answer="4"), "5")
    assert score.reason == "no match"
    (score,) = scores("inspect_scorers.py:includes", task(answer="4"), "it is 4")
    assert (score.answer, score.reason) == ("it is 4", "2 + 2 = ?")


@pytest.mark.parametrize(
    ("function", "style", "missing"),
    [
        ("verl_rewards.py:my_reward_fn", None, "ground_truth"),
        ("trl_rewards.py:ground_truth_reward", "trl", "ground_truth"),
        ("verifiers_rubric.py:correct_answer", None, "answer"),
        ("openrlhf_rewards.py:listed", None, "labels"),
        ("inspect_scorers.py:includes", None, "target"),
    ],
)
def test_a_missing_column_is_an_error_that_names_it(function, style, missing):
    with pytest.raises(LookupError) as caught:
        scores(function, task(question="?"), "4", style=style)
    assert str(caught.value) == f"the task has no value for {missing}; the columns of task t7 are question"


@pytest.mark.parametrize(
    ("function", "entry", "message"),
    [
        ("others.py:nobody", {}, "the parameters alpha, beta fit no style. rft passes completion, task"),
        ("others.py:plain", {"style": "trll"}, "there is no style 'trll'; the styles are rft, trl, trl_chat, verl,"),
        ("others.py:nobody", {"style": "verl"}, "the style does not pass alpha, beta"),
        (
            "others.py:plain",
            {"style": "openai"},
            "style 'openai' calls grade(sample, item): too many positional arguments",
        ),
        ("verifiers_v1.py:in_a_box", {}, "the parameters task, trace, runtime fit no style"),
        ("verifiers_v1.py:in_a_box", {"style": "verifiers_v1"}, "the style does not pass runtime"),
        ("trl_rewards.py:reward_func", {}, "the parameters completions, kwargs fit 3 styles; add one line to the"),
        ("trl_rewards.py:reward_func", {"style": "google"}, "style 'google' calls evaluate(example, response)"),
    ],
)
def test_a_style_that_does_not_fit_is_refused(function, entry, message):
    with pytest.raises(ConfigError) as caught:
        load_grader("g", {"use": f"{FOREIGN}/{function}", **entry})
    assert message in str(caught.value)


def test_a_real_data_set_of_reasoning_gyms():
    reasoning_gym = pytest.importorskip("reasoning_gym")
    row = reasoning_gym.create_dataset("leg_counting", size=2, seed=1)[0]
    given = task(**row)
    texts = [row["answer"], f"<answer>{row['answer']}</answer>", "-1"]
    found = values("real_reasoning_gym.py:dataset", given, *texts, style="reasoning_gym")
    assert found[:2] == [1.0, 1.0]
    assert found[2] < 1.0


def test_the_rewards_that_come_with_trl():
    pytest.importorskip("trl")
    given = task(solution=r"$\frac{1}{2}$")
    assert values("real_trl.py:accuracy_reward", given, r"\boxed{\frac{2}{4}}", r"\boxed{2}") == [1.0, 0.0]
    assert values("real_trl.py:accuracy_reward", task(solution="no formula"), r"\boxed{2}") == [None]
    assert values("real_trl.py:think_format_reward", given, "<think>\na\n</think>\n4", "4") == [1.0, 0.0]
    assert values("real_trl.py:repetition", given, "four") == [0.0]  # ids 0 to 3: no pair twice


@pytest.mark.parametrize(
    ("parser", "text", "value"),
    [
        ("plain", "4", 1.0),
        ("plain", "it is \\boxed{4}", 0.0),
        ("boxed", "it is \\boxed{4}", 1.0),
        ("boxed", "\\boxed{\\frac{1}{2}} or rather \\boxed{4}", 1.0),
        ("boxed", "4", 1.0),
        ("think", "<think>5</think>\n4", 1.0),
        ("think", "4", 0.0),
        ("think_boxed", "<think>\\boxed{5}</think> \\boxed{4}", 1.0),
        ("maybe_think", "4", 1.0),
        ("maybe_think_boxed", "\\boxed{4}", 1.0),
        ("xml:guess", "<guess>5</guess> no: <guess> 4 </guess>", 1.0),
        ("xml:guess", "4", 0.0),
    ],
)
def test_a_function_of_verifiers_has_the_parser_that_is_named(parser, text, value):
    (score,) = scores("verifiers_rubric.py:parsed_answer", task(answer="4"), text, parser=parser)
    assert score.value == value


def test_a_parser_must_be_named_or_stand_in_the_file():
    with pytest.raises(
        ConfigError, match="takes the parser of its environment; name the parser in the entry with `parser: "
    ):
        scores("verifiers_rubric.py:parsed_answer", task(answer="4"), "4")
    with pytest.raises(ConfigError, match="there is no parser 'box'; the parsers are plain, boxed,"):
        scores("verifiers_rubric.py:parsed_answer", task(answer="4"), "4", parser="box")
    (score,) = scores("verifiers_parser.py:parsed_answer", task(answer="4"), "the answer is 4")
    assert score.value == 1.0


def test_a_completion_without_its_tokens_has_no_length():
    given = replace(rollout("four"), completion_ids=(), logprobs=())
    grader = load_grader("g", {"use": f"{FOREIGN}/trl_rewards.py:short"})
    with pytest.raises(LookupError, match="the recorded completion has no tokens to pass as completion_ids"):
        grader.call(task=task(), completions=["four"], rollouts=[given])


def test_a_factory_is_called_with_its_options():
    made = "factories.py:get_length_reward"
    assert values(made, task(), "12", "1234", style="trl", max_chars=3) == [1.0, -1.0]
    assert values(made, task(), "12", "1234", style="trl", max_chars=3, penalty=-5.0) == [1.0, -5.0]
    with pytest.raises(ConfigError, match="the parameters max_chars, penalty fit no style"):
        scores(made, task(), "12")
    with pytest.raises(
        ConfigError, match=r"calling get_length_reward\(max_chars\) to make the grader failed: ValueError"
    ):
        scores(made, task(), "12", max_chars=0)


def test_classes_are_instantiated_with_their_options():
    graded = values("swift_orms.py:Overlong", task(), "123", "12345", style="trl", soft_max_length=4)
    assert graded == [0.0, -1.0]
    with pytest.raises(ConfigError, match="to make the grader failed: TypeError"):
        scores("swift_orms.py:Overlong", task(), "123")
    with pytest.raises(ConfigError, match="that is a class, and its instances cannot be called; wrap it in a function"):
        scores("swift_orms.py:NotCallable", task(), "123")
