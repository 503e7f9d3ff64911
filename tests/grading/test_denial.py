"""Which texts deny what they name: a table by hand."""

import pytest

from rft.grading.denial import is_denied

DENIED = [
    "it is not 42",
    "it isn't 42",
    "it isn\u2019t 42",
    "It cannot be 42",
    "it is not equal to the 42",
    "The answer is not, in fact, 42",
    "It is never 42",
    "x \\neq 42",
    "x \u2260 42",
    "not 42",
    "neither 42",
    "It is not **42**",
    "I don't think that it is 42",
    "It is not true that the total is 42",
    "I doubt it is 42",
    "It would be wrong to say 42",
    "42 is wrong",
    "42 is not the right answer",
    "42 isn't it",
    "$42$ is not correct",
    "42 is impossible",
]
STATED = [
    "42",
    "not 41, but 42",
    "not only 41 but 42",
    "I did not think. 42",
    "a note: 42",
    "7 does not divide it so it must be 42",
    "The number of days Sam did not work is 42",
    "The largest amount that cannot be made is 42",
    "The students who do not play are 42",
    "I do not think there are more, so it is 42",
    "42 is not divisible by 5",
    "Those who cannot swim number 42",
    "42 is the number of those who are not here",
]


@pytest.mark.parametrize("text", DENIED)
def test_denied(text):
    assert is_denied(text, text.index("42"), text.index("42") + 2)


@pytest.mark.parametrize("text", STATED)
def test_stated(text):
    assert not is_denied(text, text.index("42"), text.index("42") + 2)


@pytest.mark.parametrize(
    ("text", "denied"),
    [
        ("It is not \\boxed{42}", True),
        ("It isn't equal to $\\boxed{42}", True),
        ("The answer cannot be \\boxed{42}", True),
        ("The answer is not \\(\\boxed{42}", True),
        ("x cannot be \\boxed{42}", False),
        ("What they did not eat: \\boxed{42}", False),
        ("The number of days Sam did not work is \\(\\boxed{42}", False),
    ],
)
def test_a_box_is_denied_by_the_copula_only(text, denied):
    assert is_denied(text, text.index("\\boxed"), boxed=True) is denied
