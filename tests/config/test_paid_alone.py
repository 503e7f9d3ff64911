"""Rewards for citations that a wrong answer earns, too."""

import pytest

from rft.config.paid_alone import paid_alone

CITES, CORRECT = {"use": "cites"}, {"use": "exact"}


def composite(how, gate=None, **children):
    return {"use": "composite", "how": how, "of": children, **({"gate": gate} if gate else {})}


@pytest.mark.parametrize(
    "graders",
    [
        {"main": CORRECT},
        {"main": CORRECT, "cites": CITES | {"weight": 0}},
        {"main": composite("product", correct=CORRECT, cites=CITES, supported={"use": "supported"})},
        {"main": composite("grounded", correct=CORRECT, cites=CITES)},
        {"main": composite("min", correct=CORRECT, cites=CITES)},
        {"main": composite("gate", CITES, correct=CORRECT)},
        {"main": composite("gate", CORRECT, cites=CITES)},
        {"main": composite("sum", a=composite("product", correct=CORRECT, cites=CITES), b=CORRECT)},
        {"main": composite("product", a=composite("sum", correct=CORRECT, cites=CITES), b=CORRECT)},
    ],
)
def test_multiplied_by_the_right_answer(graders):
    assert paid_alone(graders) == []


@pytest.mark.parametrize(
    ("graders", "keys"),
    [
        ({"cites": CITES}, "graders.cites (cites) pays"),
        ({"main": CORRECT, "cites": CITES | {"weight": 0.1}}, "graders.cites (cites) pays"),
        ({"main": composite("sum", correct=CORRECT, cites=CITES)}, "graders.main.of.cites (cites) pays"),
        ({"main": composite("product", cites=CITES, abstains={"use": "abstains"})},
         "graders.main.of.cites (cites), graders.main.of.abstains (abstains) pay"),
        ({"main": composite("gate", CITES, correct=CORRECT, quotes={"use": "quotes"})},
         "graders.main.of.quotes (quotes) pays"),
        ({"main": composite("product", a=composite("sum", correct=CORRECT, cites=CITES), b=CITES)},
         "graders.main.of.a.of.cites (cites), graders.main.of.b (cites) pay"),
    ],
)  # fmt: skip
def test_added_up(graders, keys):
    (warning,) = paid_alone(graders)
    assert warning.startswith(f"{keys} for answers that are wrong, because the reward adds this up; multiply it")
    assert "graders.main.how=grounded" in warning
