"""Formulas: `calculate_output` of a multi grader, parsed by a small parser and never evaluated as code.

    sum     = product (("+" | "-") product)*
    product = unary (("*" | "/") unary)*
    unary   = ("+" | "-") unary | power
    power   = atom ("^" unary)?                    from the right: 2^3^2 is 512; -2^2 is -4
    atom    = number | key | function "(" sum ("," sum)* ")" | "(" sum ")"

All numbers are floats. Functions: `min` and `max` of several values, `abs floor ceil exp sqrt log` (natural) of one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn

from rft.grading.foreign.openai_spec.faults import Fault, Flag, SpecError

MAX_TOKENS = 400
"""Maximum length of a formula, in numbers, names and signs."""
MAX_DEPTH = 50
"""Maximum nesting of parentheses, functions, signs and powers."""

FUNCTIONS: Mapping[str, Callable[..., float]] = {
    "min": min,
    "max": max,
    "abs": abs,
    "floor": math.floor,
    "ceil": math.ceil,
    "exp": math.exp,
    "sqrt": math.sqrt,
    "log": math.log,
}
"""Functions of formulas."""
_OPERATORS: Mapping[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "^": math.pow,
}
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)|(?P<name>[A-Za-z_]\w*)|(?P<sign>[-+*/^(),]))",
    re.ASCII,
)
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a formula: a number, a key, or an operator or function with its arguments."""

    what: float | str
    """The number, the key, or the name of the operator or function."""
    position: int
    """Position in the text, from 0."""
    arguments: tuple[Node, ...] = ()
    """The arguments; empty for numbers and keys."""


@dataclass(frozen=True, slots=True)
class Formula:
    """A parsed formula.

    Example:
        Formula.parse("0.8 * correct + 0.2 * min(brief, 1)").evaluate({"correct": 1.0, "brief": 0.5})  # 0.9
    """

    source: str
    """The unchanged text."""
    root: Node
    """The root node."""

    @classmethod
    def parse(cls, source: str) -> Formula:
        """Parse a formula.

        Raises:
            SpecError: The text is not a formula; the message names the character.
        """
        return cls(source, _Parser(source).parse())

    def names(self) -> dict[str, int]:
        """Return the keys of the formula with the position of their first use."""
        positions: dict[str, int] = {}
        pending = [self.root]
        while pending:
            node = pending.pop()
            pending += reversed(node.arguments)
            if isinstance(node.what, str) and not node.arguments:
                positions.setdefault(node.what, node.position)
        return positions

    def evaluate(self, values: Mapping[str, float]) -> float:
        """Return the formula's value.

        Raises:
            Fault: A step has no finite value.
        """
        return _evaluate(self.root, values)


def is_key(name: str) -> bool:
    """Whether a formula can use this name of a grader."""
    return bool(_NAME.fullmatch(name)) and name not in FUNCTIONS


def _evaluate(node: Node, values: Mapping[str, float]) -> float:
    if isinstance(node.what, float):
        return node.what
    if not node.arguments:
        return values[node.what]
    arguments = [_evaluate(argument, values) for argument in node.arguments]
    try:
        if node.what in FUNCTIONS:
            value = float(FUNCTIONS[node.what](*arguments) if len(arguments) > 1 else _of_one(node.what, arguments[0]))
        else:
            value = -arguments[0] if len(arguments) == 1 else _OPERATORS[node.what](*arguments)
    except (ArithmeticError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        shown = ", ".join(f"{argument:g}" for argument in arguments)
        detail = f"'{node.what}' at character {node.position} of calculate_output has no finite value for {shown}"
        raise Fault(Flag.FORMULA_PARSE_ERROR, detail)
    return value


def _of_one(function: str, argument: float) -> float:
    return argument if function in ("min", "max") else FUNCTIONS[function](argument)


class _Parser:
    """A recursive-descent parser of one formula."""

    def __init__(self, source: str) -> None:
        self.tokens = _tokens(source)
        self.next = 0
        self.depth = 0

    def parse(self) -> Node:
        root = self.sum()
        kind, text, position = self.tokens[self.next]
        if kind != "end":
            self.fail(f"expected an operator or the end, got {text!r}", position)
        return root

    def fail(self, problem: str, position: int) -> NoReturn:
        raise SpecError([f"character {position}: {problem}"])

    def take(self, *signs: str) -> tuple[str, int] | None:
        """Consume the next token if it is one of these signs."""
        kind, text, position = self.tokens[self.next]
        if kind != "sign" or text not in signs:
            return None
        self.next += 1
        return text, position

    def sum(self) -> Node:
        return self.chain(self.product, "+", "-")

    def product(self) -> Node:
        return self.chain(self.unary, "*", "/")

    def chain(self, operand: Callable[[], Node], *operators: str) -> Node:
        node = operand()
        while operator := self.take(*operators):
            node = Node(*operator, (node, operand()))
        return node

    def unary(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail(f"nested deeper than {MAX_DEPTH}", self.tokens[self.next][2])
        operator = self.take("+", "-")
        if operator is None:
            node = self.power()
        else:
            node = self.unary()
            node = Node(*operator, (node,)) if operator[0] == "-" else node
        self.depth -= 1
        return node

    def power(self) -> Node:
        base = self.atom()
        operator = self.take("^")
        return Node(*operator, (base, self.unary())) if operator else base

    def atom(self) -> Node:
        if self.take("("):
            node = self.sum()
            self.close()
            return node
        kind, text, position = self.tokens[self.next]
        self.next += 1
        if kind == "number":
            value = float(text)
            if math.isinf(value):
                self.fail(f"{text} is too large", position)
            return Node(value, position)
        if kind != "name":
            self.fail(f"expected a number, a grader or '(', got {repr(text) if text else 'the end'}", position)
        return self.call(text, position) if text in FUNCTIONS or self.peek("(") else Node(text, position)

    def peek(self, sign: str) -> bool:
        return self.tokens[self.next][:2] == ("sign", sign)

    def call(self, function: str, position: int) -> Node:
        if function not in FUNCTIONS:
            self.fail(f"'{function}' is not a function; the functions are {', '.join(FUNCTIONS)}", position)
        if not self.take("("):
            self.fail(f"'{function}' is a function; write {function}(...)", position)
        arguments = [self.sum()]
        while self.take(","):
            arguments.append(self.sum())
        self.close()
        if len(arguments) > 1 and function not in ("min", "max"):
            self.fail(f"'{function}' takes one argument, not {len(arguments)}", position)
        return Node(function, position, tuple(arguments))

    def close(self) -> None:
        if not self.take(")"):
            self.fail("')' is missing", self.tokens[self.next][2])


def _tokens(source: str) -> list[tuple[str, str, int]]:
    """Split a formula into (kind, text, position); the last token is the end."""
    tokens: list[tuple[str, str, int]] = []
    at = 0
    while match := _TOKEN.match(source, at):
        kind = str(match.lastgroup)
        tokens.append((kind, match[kind], match.start(kind)))
        at = match.end()
    at += len(source[at:]) - len(source[at:].lstrip())
    if at < len(source):
        hint = "; power is written '^'" if source.startswith("**", at) else ""
        raise SpecError([f"character {at}: {source[at]!r} cannot be read{hint}"])
    if len(tokens) > MAX_TOKENS:
        raise SpecError([f"the formula has {len(tokens)} numbers, names and signs; the limit is {MAX_TOKENS}"])
    return [*tokens, ("end", "", len(source))]
