"""Where a text states its answer."""

import time

import pytest

from rft.grading.statements import stated, stated_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("\\boxed{4}", "4"),
        ("\\boxed 4", "4"),
        ("\\fbox{4}", "4"),
        ("\\boxed{1} then \\boxed{\\frac{1}{2}}.", "\\frac{1}{2}"),
        ("\\boxed{1} and \\boxed{2}", "1, 2"),
        ("$\\boxed{1}$, \\(\\boxed{2}\\) or \\boxed{3}", "1, 2, 3"),
        ("\\boxed{1} \\boxed{2}", "2"),
        ("\\boxed{\\{1, 2\\}}", "\\{1, 2\\}"),
        ("\\boxed{4", None),
        ("<answer>4</answer>", "4"),
        ("<answer>3</answer><answer> 4 </answer>", "4"),
        ("<answer>4", "4"),
        ("<answer>4</answer> \\boxed{5}", "5"),
        ("The answer is 3. <answer>4</answer>", "4"),
        ("The answer is 4.", "4."),
        ("The answer is: 4", "4"),
        ("The answer to the question is 4", "4"),
        ("The answer must be 4", "4"),
        ("Answer: 3\nno, answer: 4\nbye", "4"),
        ("**Answer:** 4", "** 4"),
        ("Answer:\n\n4\n5", "4"),
        ("### Final Answer\n\n4", "4"),
        ("12 + 6 = 18\n#### 18", "18"),
        ("#### 18 and \\boxed{19}", "19"),
        ("The answer is 4. I hope the answer is correct.", "4. I hope the answer is correct."),
        ("\u7b54\u6848\u662f4", "4"),
        ("\uc815\ub2f5: 4", "4"),
        ("La respuesta es 4", "4"),
        ("The answers are many", "many"),
        ("He answered in time", None),
        ("4", None),
        ("", None),
    ],
)
def test_stated_answer(text, answer):
    assert stated_answer(text) == answer


def test_an_open_box_states_nothing():
    statement = stated("the answer is 4, \\boxed{4")
    assert (statement.kind, statement.text) == ("box", None)


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{" * 20_000,
        "<answer>" * 20_000,
        "answer " * 30_000,
        "\n" * 100_000,
        "answer to a " * 20_000,
        "#" * 100_000,
    ],
)
def test_hostile_text_takes_no_time(text):
    start = time.process_time()
    stated(text)
    assert time.process_time() - start < 0.5
