r"""Rewrites a mathematical answer in one canonical notation, so equal answers in different LaTeX become equal texts.

Only the notation changes; nothing is computed. `14{,}916` and `14\,916` become `14916`, `\dfrac13` becomes
`\frac{1}{3}`, `\textbf{18}` becomes `18`, `125~\text{miles}` becomes `125`, `3 or 5` becomes `3,5`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

MAX_DIGITS = 400
"""Longer strings of digits are compared as texts, not as numbers."""

_SYMBOLS = {
    "\u2212": "-", "\u2013": "-", "\u2014": "-", "\ufe63": "-",
    "\u00d7": r"\times ", "\u00b7": r"\cdot ", "\u22c5": r"\cdot ", "\u00f7": r"\div ", "\u00b1": r"\pm ",
    "\u2264": r"\leq ", "\u2265": r"\geq ", "\u2260": r"\neq ", "\u2248": r"\approx ", "\u2208": r"\in ",
    "\u222a": r"\cup ", "\u2229": r"\cap ", "\u2205": r"\emptyset ", "\u221e": r"\infty ", "\u03c0": r"\pi ",
    "\u03b8": r"\theta ", "\u00b0": r"^\circ ", "\u211d": r"\mathbb{R}", "\u2124": r"\mathbb{Z}",
    "\u00b2": "^{2}", "\u00b3": "^{3}", "\u00bd": r"\frac{1}{2}", "\u00bc": r"\frac{1}{4}", "\u00be": r"\frac{3}{4}",
    "\u3002": ".", "\u3001": ",", "\u060c": ",",
    **dict.fromkeys("\xa0\u2002\u2003\u2007\u2009\u200a\u202f\u3000", " "),
    **{chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},
}  # fmt: skip
_TABLE = str.maketrans(_SYMBOLS)
_FOREIGN_DIGIT = re.compile(r"(?![0-9])\d")
_ROOT_SIGN = re.compile(r"\u221a\s*(?:\(([^()]*)\)|\{([^{}]*)\}|(\w+))")

FUNCTIONS = "arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|log|ln|lg|exp|sqrt|pi|max|min|gcd|lcm"
"""Mathematical names that also occur without a backslash."""
_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_SHORT_UNITS = (
    "mm|cm|dm|km|in|ft|yd|mi|mg|kg|lb|lbs|oz|ml|mL|cl|dl|hr|hrs|min|sec|day|mph|kmh|kph|Hz|kHz|rpm|sq|cu|deg|rad"
    "|USD|EUR"
)

GROUP = r"\{(?:[^{}]|\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\})*\}"
"""A brace group with up to four nested levels."""
_WORDING = r"text(?:bf|it|rm|sf|tt|normal)?|math(?:rm|bf|it|sf|tt|normal)|mbox|hbox|operatorname|boldsymbol|bm|emph"
_WRAPPED = re.compile(rf"\\({_WORDING})\*?\s*\{{([^{{}}]*)\}}(\s*\^\s*\{{?[23]\}}?)?")
_UNIT_WRAPPERS = ("text", "textrm", "textnormal", "mathrm", "mbox", "hbox")
_UNIT = re.compile(
    rf"(?!(?:and|or|is|are|if|when|where|for|with|in|to|per ?cent|percentage|pct|e|i|d|{'|'.join(_SCALES)})\b)"
    r"[A-Za-z][A-Za-z ./-]*"
)
_CURRENCY = re.compile(r"\\?[$\u20ac\u00a3\u00a5]")
_UNIT_WORD = rf"(?:{_SHORT_UNITS}|(?!(?:{'|'.join(_SCALES)}|percent|percentage|half|dozen|over|minus|plus|times)\b)"
_UNIT_WORD += r"[A-Za-z]{4,})\b\.?"
_POWER = r"(?:\s*\^\s*\{?[23]\}?)?"
_UNITS = re.compile(
    rf"(?<=[0-9}})])\s*(?<![\^_}}]\{{)(?:{_UNIT_WORD}{_POWER})(?:\s*(?:/|per\b|an?\b|of\b)?\s*{_UNIT_WORD}{_POWER})*"
    r"(?=\s*(?:$|[,;)\]}]|\\cup))"
)
_ANGLE = re.compile(r"(?<=[0-9}])\s*\^\s*\{?\\circ\}?(?=\s*(?:$|[,;)\]}.]))")

_Rewrite = tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]


def _rewrites(*pairs: tuple[str, str | Callable[[re.Match[str]], str]]) -> tuple[_Rewrite, ...]:
    return tuple((re.compile(pattern), replacement) for pattern, replacement in pairs)


_LAYOUT = _rewrites(
    (r"\\(?:left|right)\s*\.", ""),
    (r"\\(?:left|right|middle|[bB]igg?[lrm]?)(?![A-Za-z])", ""),
    (r"\\(?:display|text|script|scriptscript)style(?![A-Za-z])|\\(?:no)?limits(?![A-Za-z])", " "),
    (r"(?<=[0-9])(?:\{,\}|,?\\[,!;: ]|,\\!)\s*(?=[0-9]{3}(?![0-9]))", ""),
    (r"(?<=[0-9])\s*\{\s*,\s*\}\s*(?=[0-9]{3}(?![0-9]))", ""),
    (r"\\!", ""),
    (r"(?<!\\)\\[,;: ]|~|\\q?quad(?![A-Za-z])|\\(?:thin|en|h)space(?:\{[^{}]*\})?", " "),
    (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
    (r"\\(?:degrees?|degree)(?![A-Za-z])", r"^\\circ "),
    (r"\\lvert|\\rvert|\\mid(?![A-Za-z])", "|"),
    (r"\\[lr]brace(?![A-Za-z])", lambda match: r"\{" if match[0][1] == "l" else r"\}"),
    (r"\\(?:varnothing)(?![A-Za-z])", r"\\emptyset "),
    (r"\\leqslant|\\le(?![A-Za-z])|<=", r"\\leq "),
    (r"\\geqslant|\\ge(?![A-Za-z])|>=", r"\\geq "),
    (r"\\ne(?![A-Za-z])|!=", r"\\neq "),
    (r"\\lt(?![A-Za-z])", "<"),
    (r"\\gt(?![A-Za-z])", ">"),
    (r"\\(?:begin|end)\{([bB])matrix\}", lambda match: match[0].replace(f"{match[1]}matrix", "pmatrix")),
    (
        r"[\[(]\s*\\begin\{array\}\s*\{[^{}]*\}((?:[^\\]|\\(?!end))*)\\end\{array\}\s*[\])]",
        r"\\begin{pmatrix}\1\\end{pmatrix}",
    ),
    (r"\\\\\s*(?:\[[^\]]*\])?\s*(?=\\end)", ""),
)
_ARGUMENTS = _rewrites(
    (r"\\frac\s*([0-9A-Za-z])", r"\\frac{\1}"),
    (rf"(\\frac\s*{GROUP})\s*([0-9A-Za-z])", r"\1{\2}"),
    (r"\\sqrt\s*(\[[^\]]*\])?\s*([0-9]+|[A-Za-z])", r"\\sqrt\1{\2}"),
    (r"(?<![\\A-Za-z])sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}"),
    (rf"(?<![\\A-Za-z])({FUNCTIONS})(?![A-Za-z])", r"\\\1 "),
)
_WORDS = _rewrites(
    (r"(?i)\\?%|(?:per ?cent(?:age)?|pct)\b\.?", r"\\%"),
    (r"(?i)\s*,?\s*\b(?:and|or)\b\s*", ", "),
    (
        rf"(?<=[0-9])\s*({'|'.join(_SCALES)})\b",
        lambda match: rf"\times 10^{{{_SCALES[match[1]]}}}",
    ),
)
_PRODUCTS = _rewrites(
    (r"(?<![\\A-Za-z0-9.])([0-9]+(?:\.[0-9]+)?)[eE]([-+]?[0-9]+)(?![A-Za-z0-9])", r"\1\\times 10^{\2}"),
    (r"(\\times|\\cdot|\*)\s*10\s*\^\s*(-?[0-9]+)", r"\1 10^{\2}"),
    (r"(?<=[0-9])\s*(?=[A-Za-z])(?<![A-Za-z_][0-9])", "*"),
    (r"([_^])\{(\w)\}(?!\s*\w)", r"\1\2"),
)

_IDLE_SPACE = re.compile(
    r"(?<![A-Za-z0-9,]) | (?![A-Za-z0-9])|(?<=[A-Za-z]) (?=[0-9])|(?<=[0-9]) (?=[A-Za-z])|(?<=,) (?![0-9])"
)
"""Spaces that do not separate values, unlike those in `\\cos x`, `4 2` and the list `32, 349`."""
NAME = r"(?:\\?[A-Za-z]+(?:_\{?\w+\}?)?(?:\([^()=]*\))?|\([a-z](?:,[a-z])*\))"
"""Left sides of an assignment: `x`, `x_1`, `f(2)`, `(x,y)`."""
_ASSIGNED = re.compile(rf"({NAME})=((?:\\[A-Za-z]+|[^=A-Za-z])+)")
_MEMBER = re.compile(rf"{NAME}\\in(?![A-Za-z])")
_ENCLOSED = re.compile(r"\(((?:[^(),]|\([^(),]*\))*)\)|\{([^{}]*)(?<!\\)\}")
_NUMBER = re.compile(r"([-+]?)\s*([0-9]+(?:,[0-9]{3})*(?:\.[0-9]*)?|\.[0-9]+)")
_FRACTION = re.compile(r"([-+]?)\s*([0-9]*)\s*\\frac\{\s*([-+]?[0-9.]+)\s*\}\{\s*([-+]?[0-9.]+)\s*\}")
_RATIO = re.compile(r"([-+]?[0-9.]+)\s*/\s*([0-9.]+)")
_POWER_OF_TEN = re.compile(r"([-+]?[0-9.]+)\s*(?:\\times|\\cdot|\*)\s*10\^(?:\{([-+]?[0-9]{1,3})\}|([0-9]))")
_PLAIN_DIGITS = re.compile(r"[-+]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|[-+]?\.[0-9]+")


def tidy(text: str) -> str:
    """Return a text with ASCII digits, with LaTeX for Unicode symbols, and with plain spaces."""
    if text.isascii():
        return text
    text = ascii_digits(text)
    text = _ROOT_SIGN.sub(lambda match: rf"\sqrt{{{match[1] or match[2] or match[3]}}}", text)
    return text.translate(_TABLE)


def ascii_digits(text: str) -> str:
    """Return a text with ASCII digits instead of the decimal digits of other scripts."""
    return text if text.isascii() else _FOREIGN_DIGIT.sub(lambda match: str(int(match[0])), text)


def canonical(latex: str) -> str:
    r"""Return an answer in its canonical notation.

    Layout, wrappers such as `\text{}`, units, currencies, thousands separators and closing punctuation are removed; a
    percent sign and the `!` of a factorial are kept. `and` and `or` become commas.

    Example:
        canonical(r"\left(\dfrac13, 1{,}000\right)") is r"(\frac{1}{3},1000)"
    """
    text = tidy(latex).strip(" \t\n*")
    if _PLAIN_DIGITS.fullmatch(text):
        return text.replace(",", "").rstrip(".").lstrip("+")
    for pattern, replacement in _LAYOUT:
        text = pattern.sub(replacement, text)
    while (unwrapped := _WRAPPED.sub(_unwrapped, text)) != text:
        text = unwrapped
    text = _CURRENCY.sub("", text)
    for pattern, replacement in (*_ARGUMENTS, *_WORDS):
        text = pattern.sub(replacement, text)
    text = _UNITS.sub("", text.strip())
    if not re.search(r"\\(?:sin|cos|tan|cot|sec|csc)", text):
        text = _ANGLE.sub("", text)
    for pattern, replacement in _PRODUCTS:
        text = pattern.sub(replacement, text)
    text = re.sub(r"^(?:\\(?:approx|sim|equiv)(?![A-Za-z])|=|:)\s*", "", text.strip())
    text = re.sub(r"(?<![0-9,])([0-9]{1,3}(?: [0-9]{3})+)(?![ 0-9])", lambda match: match[1].replace(" ", ""), text)
    text = re.sub(r"\s*,\s+", ", ", re.sub(r"\s+", " ", text))
    text = _IDLE_SPACE.sub("", text)
    text = text.rstrip(".,;: ")
    if match := _ENCLOSED.fullmatch(text):
        text = match[1] or match[2]
    return text.replace(",", "").lstrip("+") if _PLAIN_DIGITS.fullmatch(text) else text


def as_number(text: str) -> Fraction | None:
    r"""Return the number in a canonical text; None for any other text.

    Numbers are decimals, fractions of decimals (`1/3`, `\frac{1}{3}`, `2\frac{1}{3}`) and powers of ten
    (`1.5\times 10^{3}`). Sums, roots and other arithmetic are not evaluated.
    """
    if len(text) > MAX_DIGITS:
        return None
    try:
        if _NUMBER.fullmatch(text):
            return Fraction(text.replace(",", "").replace(" ", ""))
        if match := _RATIO.fullmatch(text):
            return Fraction(match[1]) / Fraction(match[2])
        if match := _FRACTION.fullmatch(text):
            value = int(match[2] or 0) + Fraction(match[3]) / Fraction(match[4])
            return -value if match[1] == "-" else value
        if match := _POWER_OF_TEN.fullmatch(text):
            return Fraction(match[1]) * Fraction(10) ** int(match[2] or match[3])
    except (ValueError, ZeroDivisionError):
        return None
    return None


def unnamed(spelled: str) -> str:
    r"""Return the value of `x=5`, `x=3,x=5`, `(x,y)=(1,2)` or `x\in[0,1]`, without an approximation after it."""
    exact, _, approximate = spelled.partition("\\approx")
    if approximate:
        spelled = approximate if re.fullmatch(NAME, exact.strip()) else exact
    if match := _MEMBER.match(spelled):
        return spelled[match.end() :]
    if match := _ASSIGNED.fullmatch(spelled):
        return match[2]
    members = re.split(", ?", spelled)
    numbers = {as_number(member) for member in members}
    if len(members) > 1 and len(numbers) == 1 and None not in numbers:
        return members[-1]  # one number in several forms
    parts = [_ASSIGNED.fullmatch(part) for part in members]
    if all(parts) and len({part[1] for part in parts if part}) == 1:
        return ", ".join(part[2] for part in parts if part)
    return spelled


def _unwrapped(match: re.Match[str]) -> str:
    r"""Return the content of a wrapper such as `\text{...}`; empty for a unit, which is a word after an expression."""
    content = match[2].strip()
    before = match.string[: match.start()].rstrip()
    is_unit = match[1] in _UNIT_WRAPPERS and before[-1:] not in ("", *"=+-*/,;:<>([{&|") and _UNIT.fullmatch(content)
    if is_unit:
        return ""
    text = content if len(content) == 1 or content[:1].isdigit() else f" {content} "
    return text + (match[3] or "")
