"""The report of a comparison: one HTML file without scripts or addresses."""

from __future__ import annotations

from collections.abc import Sequence

from jinja2 import Environment

from rft.evidence.compared import Compared
from rft.metrics.intervals import Estimate

WIDTH = 320
"""Width of a bar in pixels, from the lowest to the highest end of all intervals."""

_PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Comparison</title>
<style>
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 0.5rem 0 2rem; }
td, th { padding: 0.25rem 0.8rem 0.25rem 0; text-align: left; font-variant-numeric: tabular-nums; }
th { border-bottom: 1px solid; }
svg { display: block; }
line { stroke: currentColor; }
circle { fill: currentColor; }
</style>
<h1>Comparison</h1>
{% for one in compared %}
<h2>{{ one.metric }}</h2>
<p>{{ one.comparison.num_tasks }} common tasks; the unit is a {{ one.unit }}.</p>
<table>
<tr><th></th><th>mean</th><th>95% interval</th>{% for k in one.pass_at %}<th>pass@{{ k }}</th>{% endfor %}</tr>
{% for name, value in one.comparison.means.items() %}
<tr><td>{{ name }}</td><td>{{ value.text() }}</td><td>{{ bar(value, one.comparison.means.values()) | safe }}</td>
{% for own in one.pass_at.values() %}<td>{{ own[name].text() }}</td>{% endfor %}</tr>
{% endfor %}
</table>
<table>
<tr><th></th><th>difference</th><th>95% interval</th><th>test</th><th>p, corrected</th><th></th></tr>
{% for own in one.tested %}
<tr><td>{{ own.difference.name }}</td><td>{{ own.difference.estimate.text(signed=True) }}</td>
<td>{{ bar(own.difference.estimate, one.comparison.differences | map(attribute="estimate"), zero=True) | safe }}</td>
<td>{{ own.test }}</td><td>{{ "" if own.adjusted is none else "%.4f" | format(own.adjusted) }}</td>
<td>{{ own.verdict }}</td></tr>
{% endfor %}
</table>
{% endfor %}
<ul>{% for note in notes %}<li>{{ note }}</li>{% endfor %}</ul>
</html>
"""
_BAR = """\
<svg width="{{ width }}" height="16" role="img" aria-label="{{ value.text() }}">
{% if at_zero is not none %}<line x1="{{ at_zero }}" x2="{{ at_zero }}" y1="0" y2="16" stroke-dasharray="2"/>{% endif %}
{% if low is not none %}<line x1="{{ low }}" x2="{{ high }}" y1="8" y2="8" stroke-width="2"/>{% endif %}
<circle cx="{{ mean }}" cy="8" r="4"/></svg>"""


def page_of(compared: Sequence[Compared], notes: Sequence[str]) -> str:
    """Return the report.

    Args:
        compared: One comparison for each metric.
        notes: What a reader must know.
    """
    environment = Environment(autoescape=True)
    environment.globals["bar"] = lambda value, others, zero=False: _bar(environment, value, [*others], zero=zero)
    return environment.from_string(_PAGE).render(compared=compared, notes=notes)


def _bar(environment: Environment, value: Estimate, others: Sequence[Estimate], *, zero: bool) -> str:
    """Return the picture of an interval, on the scale of all of them."""
    points = [point for one in others for point in (one.mean, *(one.ci95 or ()))] + ([0.0] if zero else [])
    start, span = min(points), (max(points) - min(points)) or 1.0

    def place(number: float) -> float:
        return float(8 + (number - start) / span * (WIDTH - 16))

    ends = value.ci95
    return environment.from_string(_BAR).render(
        width=WIDTH,
        value=value,
        mean=place(value.mean),
        low=None if ends is None else place(ends[0]),
        high=None if ends is None else place(ends[1]),
        at_zero=place(0.0) if zero else None,
    )
