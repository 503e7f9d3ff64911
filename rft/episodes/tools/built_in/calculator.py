"""The built-in tool `calculator`: arithmetic with exact numbers.

Nothing is run: the expression is parsed into a tree, and only numbers, operators and a few functions are read from it.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from rft.episodes.tools.built_in.base import BuiltIn, Call, Described
from rft.episodes.tools.tool import ToolError
from rft.types import Task

MAX_CHARACTERS = 1000
"""Longest expression."""
MAX_BITS = 4096
"""Largest numerator or denominator."""

_SIGNS = str.maketrans({"\u00d7": "*", "\u00b7": "*", "\u00f7": "/", "\u2212": "-", "\u2013": "-"})
"""Signs of multiplication, division and subtraction outside ASCII."""
_BINARY: Mapping[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: lambda left, right: Fraction(left // right),
    ast.Mod: operator.mod,
}
_FUNCTIONS: Mapping[str, Callable[..., Fraction]] = {
    "abs": abs,
    "ceil": lambda number: Fraction(math.ceil(number)),
    "floor": lambda number: Fraction(math.floor(number)),
    "max": max,
    "min": min,
    "round": lambda number, digits=Fraction(0): Fraction(round(number, _whole(digits, "digits"))),
    "sqrt": lambda number: _power(number, Fraction(1, 2)),
}


class CalculatorTool(BuiltIn):
    """`calculator`: no options."""

    def described(self, name: str) -> Described:
        """Return one tool with the name of the entry."""
        return {name: ("Compute an arithmetic expression.", {"expression": "Such as 12 * (3 + 4) / sqrt(2)."})}

    def calls(self, name: str, task: Task) -> Mapping[str, Call]:
        """Return its call."""

        async def call(arguments: Mapping[str, Any]) -> str:
            return calculate(arguments["expression"])

        return {name: call}


def calculate(expression: str) -> str:
    """Return the value of an arithmetic expression as a decimal number.

    Whole numbers are exact; others have 12 significant digits. `^` is a power, as `**` is.

    Args:
        expression: Such as `523 + 184` or `sqrt(2) * (3 - 1/3)`.

    Raises:
        ToolError: It is no arithmetic, or its value is undefined or too large.
    """
    if len(expression) > MAX_CHARACTERS:
        raise ToolError(f"the expression has {len(expression)} characters; at most {MAX_CHARACTERS} are allowed")
    try:
        tree = ast.parse(expression.translate(_SIGNS).replace("^", "**").strip(), mode="eval")
        return _shown(_value(tree.body))
    except ZeroDivisionError:
        raise ToolError("division by zero") from None
    except (SyntaxError, ValueError):
        raise ToolError(f"{expression[:100]!r} is no arithmetic expression; write one such as 12 * (3 + 4)") from None
    except (RecursionError, MemoryError):
        raise ToolError("the expression has too many parentheses") from None
    except (OverflowError, TypeError) as error:
        raise ToolError(str(error)) from None


def _value(node: ast.expr) -> Fraction:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            # Through its text: 0.1 is one tenth, and not the nearest binary fraction.
            return _bounded(Fraction(repr(number)))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _power(_value(left), _value(right))
        case ast.BinOp(left=left, op=operation, right=right) if type(operation) in _BINARY:
            return _bounded(_BINARY[type(operation)](_value(left), _value(right)))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            return _bounded(_FUNCTIONS[name](*map(_value, arguments)))
        case ast.Call(func=ast.Name(id=name)):
            raise ToolError(f"there is no function {name}; there are {', '.join(_FUNCTIONS)}")
        case ast.Name(id="pi"):
            return Fraction(math.pi)
        case ast.Name(id=name):
            raise ToolError(f"{name} has no value; write numbers")
    raise ValueError


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator == 1:
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if bits * abs(exponent.numerator) > MAX_BITS and abs(base) not in (0, 1):
            raise ToolError("the number is too large")
        return Fraction(base**exponent.numerator)
    if base < 0:
        raise ToolError("a root of a negative number")
    return Fraction(float(base) ** float(exponent))


def _bounded(number: Fraction) -> Fraction:
    if max(number.numerator.bit_length(), number.denominator.bit_length()) > MAX_BITS:
        raise ToolError("the number is too large")
    return number


def _whole(number: Fraction, name: str) -> int:
    if number.denominator != 1 or abs(number) > 100:
        raise ToolError(f"{name} must be a whole number of at most 100")
    return number.numerator


def _shown(number: Fraction) -> str:
    return str(number.numerator) if number.denominator == 1 else f"{float(number):.12g}"
