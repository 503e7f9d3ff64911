"""Words of messages."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from rft.wording import expectation, listed, plural


@pytest.mark.parametrize(("number", "text"), [(0, "0 tasks"), (1, "1 task"), (2, "2 tasks"), (2000, "2,000 tasks")])
def test_a_count_with_its_noun(number: int, text: str) -> None:
    assert plural(number, "task") == text


def test_a_list_in_a_sentence() -> None:
    assert [listed(names) for names in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]


@pytest.mark.parametrize(
    ("type_", "value", "text"),
    [
        (int, "x", "should be a whole number"),
        (int, 1.5, "should be a whole number"),
        (int, None, "should be a whole number"),
        (float, "x", "should be a number"),
        (Annotated[float, Field(allow_inf_nan=False)], float("nan"), "should be a finite number"),
        (bool, "x", "should be true or false"),
        (str, 3, "should be a text"),
        (list[int], 3, "should be a list"),
        (dict[str, int], 3, "should be a mapping of names to values"),
        (Annotated[int, Field(ge=1)], 0, "should be at least 1"),
        (Annotated[float, Field(gt=0)], 0.0, "should be greater than 0"),
        (Annotated[float, Field(lt=0.5)], 1.0, "should be less than 0.5"),
        (Annotated[int, Field(le=512)], 513, "should be at most 512"),
        (Literal["a", "b"], "c", "should be 'a' or 'b'"),
        (Annotated[str, Field(min_length=1)], "", "should have at least 1 character"),
    ],
)
def test_what_a_value_should_be(type_: Any, value: Any, text: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(type_).validate_python(value)
    assert [expectation(error) for error in caught.value.errors()] == [text]  # type: ignore[arg-type]
