"""Templates: what is read, how values are rendered, and that nothing is expanded twice."""

import pytest

from rft.grading.foreign.openai_spec.faults import Fault, Flag, SpecError
from rft.grading.foreign.openai_spec.templates import Template
from rft.types import Status

TOOL = {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}
SAMPLE = {
    "choices": [{"message": {"content": "Paris"}}],
    "output_text": "Paris",
    "output_json": {"a": [1, {"b": "x"}], "none": None},
    "output_tools": [TOOL],
    "output_audio": None,
}
ITEM = {
    "t": "text",
    "i": 1,
    "f": 0.5,
    "whole": 2.0,
    "yes": True,
    "null": None,
    "list": [1, "\u00e9"],
    "object": {"b": 1, "a": {"date": "2026"}},
    "hyphen-ated": "h",
    "open": "{{",
    "close": "item.t }}",
    "hostile": "{{ item.t }} {{item.hostile}} {answer} \\1",
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("", ""),
        ("no variable } }} {", "no variable } }} {"),
        ("{{item.t}}", "text"),
        ("<{{  item.t\n}}{{item.i}}>", "<text1>"),
        ("{{item.f}} {{item.whole}} {{item.yes}} {{item.null}}", "0.5 2.0 true null"),
        ("{{item.list}}", '[1,"\u00e9"]'),
        ("{{item.object}}", '{"b":1,"a":{"date":"2026"}}'),
        ("{{item.object.a.date}} {{item.list[1]}}", "2026 \u00e9"),
        ("{{item.hyphen-ated}}", "h"),
        ("{{sample.output_text}} {{sample.choices[0].message.content}}", "Paris Paris"),
        ("{{sample.output_json}}", '{"a":[1,{"b":"x"}],"none":null}'),
        ("{{sample.output_json.a[1].b}} {{sample.output_json.none}}", "x null"),
        ("{{sample.output_tools[0].function.arguments}}", '{"x":1}'),
        ("{{item.hostile}}", ITEM["hostile"]),
        ("{{item.open}}{{item.close}}", "{{item.t }}"),
    ],
)
def test_rendering(template, text):
    assert Template.parse(template).render(SAMPLE, ITEM) == text


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{{ foo.x }}", "'foo' is unknown; variables begin with 'item.' or 'sample.'"),
        ("{{ x }}", "'x' is unknown"),
        ("{{ item }}", "'item' needs a field, as item.answer"),
        ("{{ sample[0] }}", "'sample' needs a field, as sample.output_text"),
        ("{{ sample.text }}", "a sample has no 'text'; its fields are output_text, output_json"),
        ("{{ sample.output_text.x }}", "output_text is a text without fields"),
        ("{{}}", "not a variable"),
        ("{{ item.x | upper }}", "not a variable"),
        ("{{ item..x }}", "not a variable"),
        ("{{ item.x[-1] }}", "not a variable"),
        ("{{ item.x() }} ", None),
        ("{{ item.__class__ }}", None),
        ("abc {{ item.x", "'{{ item.x' at character 4 is not closed with"),
    ],
)
def test_what_is_no_template(template, problem):
    if problem is None:
        Template.parse(template)  # an odd name of a column, and nothing more than that
        return
    with pytest.raises(SpecError) as caught:
        Template.parse(template)
    assert problem in str(caught.value)


def test_all_problems_of_a_template_at_once():
    with pytest.raises(SpecError) as caught:
        Template.parse("{{a.b}} {{item.ok}} {{sample.no}} {{")
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    ("template", "status"),
    [
        ("{{item.missing}}", Status.GRADER_ERROR),
        ("{{item.t.x}}", Status.GRADER_ERROR),
        ("{{item.list[2]}}", Status.GRADER_ERROR),
        ("{{item.__class__}}", Status.GRADER_ERROR),
        ("{{sample.output_audio.data}}", Status.GRADER_ERROR),
        ("{{sample.output_audio}}", Status.GRADER_ERROR),
        ("{{sample.output_tools[1].function}}", Status.NO_ANSWER),
        ("{{sample.output_json.b}}", Status.INVALID_OUTPUT),
        ("{{sample.output_json.none.x}}", Status.INVALID_OUTPUT),
    ],
)
def test_missing_variables(template, status):
    with pytest.raises(Fault) as caught:
        Template.parse(template).render(SAMPLE, ITEM)
    assert (caught.value.flag, caught.value.status) == (Flag.INVALID_VARIABLE_ERROR, status)


def test_a_variable_that_is_missing_is_named_up_to_where():
    with pytest.raises(Fault, match=r"sample.output_json.a\[5\] does not exist"):
        Template.parse("{{ sample.output_json.a[5].b }}").render(SAMPLE, ITEM)
