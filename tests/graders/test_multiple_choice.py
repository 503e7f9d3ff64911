"""Multiple choice: which letter a statement names, by hand."""

import pytest

from graders.multiple_choice import MultipleChoice
from rft.grading import Status, Task

CHOICES = ["Rome", "Paris", "Oslo", "A cat in Paris"]


def task(answer, choices=CHOICES):
    item = {"answer": answer, "choices": choices}
    return Task(id="t", messages=({"role": "user", "content": "?"},), item=item, split="train")


@pytest.mark.parametrize(
    ("completion", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        ("(B)", "B"),
        ("**B**", "B"),
        ("B.", "B"),
        ("B) Paris", "B"),
        ("B. Paris, the capital", "B"),
        ("Paris", "B"),
        ("paris.", "B"),
        ("The answer is B.", "B"),
        ("The answer is (B) Paris.", "B"),
        ("Answer: **B**", "B"),
        ("Answer: option B", "B"),
        ("The answer is B because it is the capital", "B"),
        ("\\boxed{B}", "B"),
        ("\\boxed{\\text{B}}", "B"),
        ("Rome is wrong, Oslo too.\nB", "B"),
        ("Answer: A\nNo. Answer: B", "B"),
        ("<think>Answer: A</think>B", "B"),
        ("A", "A"),
        ("A cat in Paris", "D"),
        ("<answer>B</answer>", "B"),
        ("<answer>(B) Paris</answer>", "B"),
        ("The best option is B", "B"),
        ("The correct choice is B.", "B"),
        ("It must be B.", "B"),
        ("B. it can't be A or C", "B"),
        ("The answer is B, not A.", "B"),
        ("The answer is B. Note that A is a common distractor.", "B"),
        ("The answer is B. Paris", "B"),
        ("\uc815\ub2f5: B", "B"),
        ("\u7b54\u6848\u662fB", "B"),
        ("\u7b54\u6848\uff1aB\u3002", "B"),
        ("B<|im_end|>", "B"),
        ("D) A cat in Paris", "D"),
    ],
)
def test_named(completion, letter):
    score = MultipleChoice().grade(completion, task("B"))
    assert (score.answer, score.value, score.status) == (letter, float(letter == "B"), Status.OK)


@pytest.mark.parametrize(
    "completion",
    [
        "A B C D",
        "A, B",
        "B or C",
        "B/C",
        "BC",
        "The answer is A, B, C, D.",
        "The answer is not B.",
        "Answer: B, C",
        "B) Paris, Rome, Oslo",
        "B) Paris or C",
        "A good question",
        "Z",
        "Because it is big",
        "I think that Paris is nice",
        "\\boxed{A, B}",
        "<answer>A or B</answer>",
        "The best option is A or B.",
        "The answer is B. Or C.",
        "The answer is B. Rome",
        "It can't be B.",
        "It must not be B.",
        "The answer isn't B.",
    ],
)
def test_what_names_no_one_option(completion):
    score = MultipleChoice().grade(completion, task("B"))
    assert (score.value, score.status) == (0.0, Status.INVALID_OUTPUT)


@pytest.mark.parametrize("completion", ["", " ", ".", ":", "**", "<think>B", "<think>B</think>"])
def test_no_answer(completion):
    score = MultipleChoice().grade(completion, task("B"))
    assert (score.value, score.status) == (0.0, Status.NO_ANSWER)


@pytest.mark.parametrize("answer", ["B", 1, "Paris", " B "])
def test_references(answer):
    assert MultipleChoice().grade("B", task(answer)).value == 1.0


def test_a_text_goes_before_a_letter():
    assert MultipleChoice().grade("Answer: B", task("B", ["B", "A"])).answer == "A"


def test_a_task_without_a_reference_is_skipped():
    assert MultipleChoice().grade("B", task(None)) is None


@pytest.mark.parametrize(
    ("answer", "choices", "message"),
    [
        ("E", CHOICES, "none of its 4 options"),
        (4, CHOICES, "none of its 4 options"),
        (True, CHOICES, "none of its 4 options"),
        ("B", "Rome", "is not a list of 2 to 26"),
        ("A", ["Rome"], "is not a list of 2 to 26"),
        ("A", ["Rome", "rome "], "empty or repeated"),
        ("A", ["Rome", ""], "empty"),
    ],
)
def test_bad_tasks_are_errors(answer, choices, message):
    with pytest.raises(ValueError, match=message):
        MultipleChoice().grade("B", task(answer, choices))
