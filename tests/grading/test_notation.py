"""One spelling of an answer, and the number that it spells: tables by hand."""

from fractions import Fraction

import pytest

from rft.grading.notation import as_number, canonical


@pytest.mark.parametrize(
    ("latex", "spelled"),
    [
        ("14{,}916", "14916"),
        (r"14\,916", "14916"),
        ("1 000", "1000"),
        (r"10,\!080", "10080"),
        (r"11,\! 111,\! 111,\! 100", "11111111100"),
        ("32, 349", "32, 349"),
        ("4 2", "4 2"),
        (r"\left(\frac13\right)", r"\frac{1}{3}"),
        (r"\dfrac3{4}", r"\frac{3}{4}"),
        (r"\textbf{18}", "18"),
        (r"\displaystyle 18", "18"),
        (r"125~\text{miles}", "125"),
        (r"864 \mbox{ inches}^2", "864"),
        (r"8\pi\text{ cm}^2", r"8\pi"),
        ("5 dollars per hour", "5"),
        ("45\u00b0", "45"),
        (r"90^\circ", "90"),
        (r"\sin 30^\circ", r"\sin30^\circ"),
        ("18.", "18"),
        ("\u20135", "-5"),
        (r"\approx 9", "9"),
        (r"\$32,\!348", "32348"),
        ("28 pct", r"28\%"),
        (r"28\text{ percent}", r"28\%"),
        ("42 million", r"42\times10^6"),
        ("1.5e3", r"1.5\times10^3"),
        ("19, 46, and 82", "19, 46, 82"),
        (r"x = 3 \text{ or } x = 5", "x=3,x=5"),
        ("2ab", "2*ab"),
        ("x^{2}", "x^2"),
        ("n!", "n!"),
        ("10\u00b2", "10^2"),
        (r"1-\frac{1}{\mathrm{e}}", r"1-\frac{1}{e}"),
        (r"\begin{bmatrix} 1 \\ 2 \end{bmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
        (r"\left[\begin{array}{cc} 1 & 2 \\ 3 & 4 \end{array}\right]", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"),
        (r"\text{(C)}", "C"),
        ("(1, 2)", "(1, 2)"),
        ("\uff14\uff12", "42"),
        ("\u0664\u0662", "42"),
        ("", ""),
    ],
)
def test_canonical(latex, spelled):
    assert canonical(latex) == spelled
    assert canonical(spelled) == spelled


@pytest.mark.parametrize(
    ("spelled", "number"),
    [
        ("18", Fraction(18)),
        ("-.5", Fraction(-1, 2)),
        ("1234.5", Fraction(2469, 2)),
        ("1/3", Fraction(1, 3)),
        (r"-\frac{1}{3}", Fraction(-1, 3)),
        (r"1\frac{4}{5}", Fraction(9, 5)),
        (r"1.5\times10^{3}", Fraction(1500)),
        (r"2\times10^3", Fraction(2000)),
        ("1/0", None),
        ("6*7", None),
        ("40+2", None),
        (r"\sqrt{4}", None),
        ("32, 349", None),
        ("4 2", None),
        ("x", None),
        ("", None),
        ("9" * 5000, None),
    ],
)
def test_as_number(spelled, number):
    assert as_number(spelled) == number
