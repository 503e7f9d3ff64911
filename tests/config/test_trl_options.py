"""What is read from the source of TRL and Transformers is what they really have.

The slowest file of this folder, for it imports them.
"""

import dataclasses
import typing

import pytest

from rft.config import RunConfig
from rft.config.trl_options import trl_options
from rft.config.trl_support import PASSED_ON, SET_BY_RFT, WITHOUT_EFFECT

pytestmark = pytest.mark.e2e  # real libraries or real limits: too slow for a unit test


def test_the_options_are_those_of_trl() -> None:
    from trl import GRPOConfig

    assert set(trl_options()) == {field.name for field in dataclasses.fields(GRPOConfig) if field.init}


def test_the_choices_are_those_of_transformers() -> None:
    from transformers.trainer_utils import SchedulerType
    from transformers.training_args import OptimizerNames

    assert trl_options()["lr_scheduler_type"].choices == tuple(each.value for each in SchedulerType)
    assert trl_options()["optim"].choices == tuple(each.value for each in OptimizerNames)


def test_it_is_decided_what_becomes_of_each_option() -> None:
    decided = [*SET_BY_RFT, *WITHOUT_EFFECT, *PASSED_ON]
    assert len(decided) == len(set(decided)), "an option is in two tables of rft/config/trl_support.py"
    assert set(decided) == set(trl_options()), (
        "TRL or Transformers gained or lost options: read what the trainer does with the new ones, and put each into "
        "one table of rft/config/trl_support.py"
    )


def test_the_default_of_each_option_fits_its_type() -> None:
    from trl import GRPOConfig

    from rft.config.trl_problems import _fits

    defaults = {field.name: field.default for field in dataclasses.fields(GRPOConfig) if field.init}
    wrong = {
        name: value
        for name, value in defaults.items()
        if value is not dataclasses.MISSING and not _fits(value, trl_options()[name])
    }
    assert not wrong


@pytest.mark.parametrize(
    "key", sorted(set(SET_BY_RFT.values()) - {"graders.<name>.weight", "model.chat_template_kwargs"})
)
def test_what_to_use_instead_is_a_key_of_rft(key: str) -> None:
    fields = RunConfig.model_fields
    *sections, last = key.split(".")
    for name in sections:
        annotation = fields[name].annotation
        kinds = [kind for kind in (typing.get_args(annotation) or (annotation,)) if hasattr(kind, "model_fields")]
        fields = {name: field for kind in kinds for name, field in kind.model_fields.items()}
    assert last in fields
