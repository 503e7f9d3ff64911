"""Constraints: each kind, by hand."""

import pytest

from graders.constraints import MAX_CHARS, Constraints, constraint_problems
from rft.grading import Status, Task, grader_problems

TEXT = "Paris is big. Rome isn't!\n\nIs Oslo?\n- one\n* two"


def task(**item):
    return Task(id="t", messages=({"role": "user", "content": "?"},), item=item, split="train")


def one(kind, **keys):
    return {"kind": kind, **keys}


@pytest.mark.parametrize(
    ("constraint", "text", "met"),
    [
        (one("words", at_least=9, at_most=9), TEXT, True),
        (one("words", at_least=10), TEXT, False),
        (one("words", at_most=8), TEXT, False),
        (one("sentences", at_least=3, at_most=4), TEXT, True),
        (one("sentences", at_most=2), "Yes. No.", True),
        (one("sentences", at_most=1), "Yes. No.", False),
        (one("sentences", at_least=3), "... ! a ? .", False),
        (one("sentences", at_most=1), "It costs 3.14 dollars.", True),
        (one("sentences", at_most=1), "Visit www.example.com today.", True),
        (one("sentences", at_most=1), "Dr. J. Smith met Mr. Lee, e.g. at noon.", True),
        (one("sentences", at_least=2, at_most=2), 'She said: "Go!" Then she left', True),
        (one("sentences", at_least=2, at_most=2), "1. Mix it. 2. Bake it.", True),
        (one("sentences", at_least=2), "\u662f\u3002\u4e0d\u3002", True),
        (one("paragraphs", at_least=2, at_most=2), TEXT, True),
        (one("paragraphs", at_least=2), "a\nb", False),
        (one("paragraphs", at_least=2), "a\n\n.\n\n-", False),
        (one("bullets", at_least=2, at_most=2), TEXT, True),
        (one("bullets", at_least=1), "-\n-\n- \na", False),
        (one("bullets", at_least=3, at_most=3), "- **a**\n- **b**\n+ c\n1. d", True),
        (one("list_items", at_least=3, at_most=3), "- **a**\n1. b\n2) **c**\n3.", True),
        (one("include", texts=["paris", "OSLO"]), TEXT, True),
        (one("include", texts=["Par"]), TEXT, False),
        (one("include", texts=["is"], times=2), TEXT, True),
        (one("include", texts=["is"], times=3), TEXT, False),
        (one("exclude", texts=["London"]), TEXT, True),
        (one("exclude", texts=["London", "rome"]), TEXT, False),
        (one("case", **{"is": "upper"}), "OH NO 1", True),
        (one("case", **{"is": "upper"}), "OH No", False),
        (one("case", **{"is": "lower"}), "oh no", True),
        (one("case", **{"is": "lower"}), "12", False),
        (one("starts_with", text="Paris"), TEXT, True),
        (one("starts_with", text="paris"), TEXT, False),
        (one("ends_with", text="two"), TEXT, True),
        (one("ends_with", text="one"), TEXT, False),
        (one("no_commas"), TEXT, True),
        (one("no_commas"), "a, b", False),
        (one("no_commas"), "\u662f\uff0c\u4e0d", False),
        (one("json"), '{"a": 1}', True),
        (one("json"), "a", False),
        (one("script", name="latin"), "caf\u00e9 1 2 3", True),
        (one("script", name="latin"), "\u043a\u043e\u0442", False),
        (one("script", name="cyrillic"), "\u043a\u043e\u0442", True),
        (one("script", name="cyrillic"), "\u0441at", False),
        (one("script", name="han"), "\u4f60\u597d\u4e16\u754c", True),
        (one("script", name="hangul"), "\uc548\ub155", True),
        (one("script", name="japanese"), "\u65e5\u672c\u306e", True),
        (one("script", name="japanese"), "\u4f60\u597d\u4e16\u754c", False),
        (one("script", name="greek"), "123", False),
    ],
)
def test_kinds(constraint, text, met):
    score = Constraints(constraints=(constraint,)).grade(text, task())
    assert (score.value, score.status) == (float(met), Status.OK)


def test_the_share_that_is_met():
    column = [one("no_commas"), one("words", at_least=3), one("json"), one("ends_with", text=".")]
    score = Constraints(column="rules").grade("<think>a, b</think>One two three.", task(rules=column))
    assert (score.value, score.reason) == (0.75, "broken: json")


@pytest.mark.parametrize("completion", ["", " ", ".", "!!!", "<think>yes", "<think>yes</think>"])
def test_nothing_keeps_no_rule(completion):
    score = Constraints(constraints=(one("no_commas"),)).grade(completion, task())
    assert (score.value, score.status) == (0.0, Status.NO_ANSWER)


def test_too_long_and_no_reference():
    grader = Constraints(column="rules")
    assert grader.grade("a" * (MAX_CHARS + 1), task(rules=[one("no_commas")])).status is Status.INVALID_OUTPUT
    assert grader.grade("a", task(rules=None)) is None
    with pytest.raises(ValueError, match="task t: constraints\\[0\\]"):
        grader.grade("a", task(rules=["no_commas"]))


def test_all_problems_at_once():
    problems = constraint_problems(
        [
            "words",
            one("rhymes"),
            one("words"),
            one("words", at_least=5, at_most=4),
            one("words", at_least=-1, most=3),
            one("include", texts="Paris"),
            one("include", times=0),
            one("exclude", texts=[""]),
            one("case", **{"is": "title"}),
            one("no_commas", at_most=3),
            one("script", name="elvish"),
            one("starts_with", text=["a"]),
            one("case", **{"is": ["upper"]}),
        ]
    )
    starts = [problem.split(" is not ")[0].split(" has no valid ")[0] for problem in problems]
    assert starts == [
        "constraints[0]: 'words'",
        "constraints[1]: {'kind': 'rhymes'}",
        "constraints[2]: set at_least, at_most or both",
        "constraints[3]: at_least is more than at_most",
        "constraints[4].at_least: -1",
        "constraints[4].most: the keys of 'words' are at_least, at_most",
        "constraints[5].texts: 'Paris'",
        "constraints[6].texts: missing",
        "constraints[6].times: 0",
        "constraints[7].texts: ['']",
        "constraints[8].is: 'title'",
        "constraints[9].at_most: the keys of 'no_commas' are none",
        "constraints[10].name: 'elvish'",
        "constraints[11].text: ['a']",
        "constraints[12].is: ['upper']",
    ]


def test_options_are_checked():
    assert "either constraints or column" in grader_problems("g", {"use": "constraints"})[0]
    found = grader_problems("g", {"use": "constraints", "constraints": [{"kind": "x"}, {"kind": "words"}]})
    assert "constraints[0]" in found[0] and "constraints[1]" in found[0]
