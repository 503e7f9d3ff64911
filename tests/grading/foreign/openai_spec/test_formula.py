"""Formulas against values worked out by hand, and against Python's own arithmetic on random trees."""

import math
import random

import pytest

from rft.grading.foreign.openai_spec.faults import Fault, Flag, SpecError
from rft.grading.foreign.openai_spec.formula import Formula, is_key

VALUES = {"a": 2.0, "b": 0.5, "zero": 0.0}


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("1", 1.0),
        (" .5 ", 0.5),
        ("1.5e2", 150.0),
        ("a", 2.0),
        ("0.8 * a + 0.2 * b", 1.7),
        ("a + b * a", 3.0),
        ("(a + b) * a", 5.0),
        ("10 - 3 - 2", 5.0),
        ("16 / 4 / 2", 2.0),
        ("2 ^ 3 ^ 2", 512.0),
        ("-2 ^ 2", -4.0),
        ("(-2) ^ 2", 4.0),
        ("2 ^ -1", 0.5),
        ("--a", 2.0),
        ("+a - -b", 2.5),
        ("min(a, b, 1)", 0.5),
        ("max(a)", 2.0),
        ("min(max(a, 3), 10)", 3.0),
        ("abs(-a)", 2.0),
        ("floor(1.7) + ceil(1.2)", 3.0),
        ("floor(-0.5)", -1.0),
        ("exp(0) + log(1) + sqrt(9)", 4.0),
        ("0 ^ 0", 1.0),
        ("a^2*b", 2.0),
    ],
)
def test_values(source, value):
    assert Formula.parse(source).evaluate(VALUES) == pytest.approx(value)


@pytest.mark.parametrize(
    "source",
    ["1 / zero", "log(zero)", "log(0 - 1)", "sqrt(-a)", "zero ^ -1", "(-8) ^ (1/3)", "10 ^ 400", "exp(1000)",
     "9^9^9^9", "1e308 * 10", "min(1, 1e308 * 10)", "floor(1e308 * 10)"],
)  # fmt: skip
def test_no_finite_value(source):
    with pytest.raises(Fault) as caught:
        Formula.parse(source).evaluate(VALUES)
    assert caught.value.flag is Flag.FORMULA_PARSE_ERROR
    assert "has no finite value for" in caught.value.detail


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("", "character 0: expected a number, a grader or '(', got the end"),
        ("a +", "character 3: expected a number, a grader or '(', got the end"),
        ("a b", "character 2: expected an operator or the end, got 'b'"),
        ("2a", "character 1: expected an operator or the end, got 'a'"),
        ("(a", "character 2: ')' is missing"),
        ("a)", "character 1: expected an operator or the end, got ')'"),
        ("a ** 2", "character 3: expected a number, a grader or '(', got '*'"),
        ("a % 2", "character 2: '%' cannot be read"),
        ("a > 1", "character 2: '>' cannot be read"),
        ("a if b else a", "character 2: expected an operator or the end, got 'if'"),
        ("a.b", "character 1: '.' cannot be read"),
        ("__import__('os')", 'character 11: "\'" cannot be read'),
        ("round(a)", "character 0: 'round' is not a function; the functions are min, max, abs"),
        ("min", "character 0: 'min' is a function; write min(...)"),
        ("min()", "character 4: expected a number, a grader or '(', got ')'"),
        ("sqrt(a, b)", "character 0: 'sqrt' takes one argument, not 2"),
        ("1e999", "character 0: 1e999 is too large"),
        ("\u0663", "character 0: '\u0663' cannot be read"),
        ("(" * 60 + "a" + ")" * 60, "nested deeper than 50"),
        ("-" * 60 + "a", "nested deeper than 50"),
        ("2" + "^2" * 60, "nested deeper than 50"),
        ("a" + "+a" * 200, "the formula has 401 numbers, names and signs; the limit is 400"),
    ],
)
def test_what_is_no_formula(source, problem):
    with pytest.raises(SpecError) as caught:
        Formula.parse(source)
    assert problem in str(caught.value)


def test_the_longest_formula_is_evaluated():
    assert Formula.parse("a" + "+a" * 199).evaluate(VALUES) == 400.0


def test_names_and_keys():
    assert Formula.parse("min(b, 1) + a * b").names() == {"b": 4, "a": 12}
    assert [is_key(name) for name in ("a", "_b2", "min", "a-b", "2a", "", "\u00e9")] == [True, True] + [False] * 5


class _Random:
    """Makes random formulas: the text, and what Python makes of the same tree."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.values = {name: self.random.uniform(-3, 3) for name in "xyz"}

    def tree(self, depth):
        """Return (text, strength of its outermost operator, value or None where it has none)."""
        kind = self.random.choice(["leaf", "sign", "call", "binary", "binary", "binary"]) if depth else "leaf"
        if kind == "leaf":
            if self.random.random() < 0.5:
                name = self.random.choice("xyz")
                return name, 9, self.values[name]
            number = round(self.random.uniform(0, 4), 2)
            return str(number), 9, number
        if kind == "sign":
            text, value = self.inside(depth, 3)
            return f"-{text}", 3, self.apply(lambda a: -a, value)
        if kind == "call":
            name, function, most = self.random.choice(
                [("min", min, 3), ("max", max, 3), ("abs", abs, 1), ("floor", math.floor, 1), ("sqrt", math.sqrt, 1)]
            )
            inner = [self.tree(depth - 1) for _ in range(self.random.randint(min(2, most), most))]
            value = self.apply(function, *(value for _, _, value in inner))
            return f"{name}({', '.join(text for text, _, _ in inner)})", 9, value
        operator, left, right, mine, function = self.random.choice(
            [("+", 1, 2, 1, lambda a, b: a + b), ("-", 1, 2, 1, lambda a, b: a - b),
             ("*", 2, 3, 2, lambda a, b: a * b), ("/", 2, 3, 2, lambda a, b: a / b), ("^", 5, 3, 4, math.pow)]
        )  # fmt: skip
        (a_text, a), (b_text, b) = self.inside(depth, left), self.inside(depth, right)
        space = self.random.choice(["", " "])
        return f"{a_text}{space}{operator}{space}{b_text}", mine, self.apply(function, a, b)

    def inside(self, depth, needed):
        """Return a smaller tree, in parentheses where it binds less than needed, and now and then without need."""
        text, strength, value = self.tree(depth - 1)
        return (text if strength >= needed and self.random.random() < 0.9 else f"({text})"), value

    @staticmethod
    def apply(function, *values):
        if None in values:
            return None
        try:
            value = float(function(*values))
        except (ArithmeticError, ValueError):
            return None
        return value if math.isfinite(value) else None


@pytest.mark.parametrize("seed", range(5))
def test_random_formulas_agree_with_python(seed):
    maker, without_value = _Random(seed), 0
    for _ in range(400):
        text, _, expected = maker.tree(4)
        try:
            value = Formula.parse(text).evaluate(maker.values)
        except Fault:
            value = None
        assert value == expected, text
        without_value += expected is None
    assert 10 < without_value < 300
