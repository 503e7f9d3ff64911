"""What is read from the source of TRL and Transformers is what they really have.

The slowest file of this folder, for it imports them.
"""

import dataclasses
import typing

import pytest

from rft.config import RunConfig
from rft.config.trl_options import PACKAGES, SET_BY_RFT, tracker_names, trl_option_names

pytestmark = pytest.mark.e2e  # real libraries or real limits: too slow for a unit test


def test_the_options_are_those_of_trl() -> None:
    from trl import GRPOConfig

    assert trl_option_names() == {field.name for field in dataclasses.fields(GRPOConfig) if field.init}


def test_the_trackers_are_those_of_transformers() -> None:
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    assert tracker_names() == set(INTEGRATION_TO_CALLBACK)
    assert PACKAGES.keys() <= tracker_names()


def test_what_rft_sets_is_an_option_of_trl() -> None:
    assert set(SET_BY_RFT) <= trl_option_names()


@pytest.mark.parametrize("key", sorted(set(SET_BY_RFT.values()) - {"graders.<name>.weight"}))
def test_what_to_use_instead_is_a_key_of_rft(key: str) -> None:
    fields = RunConfig.model_fields
    *sections, last = key.split(".")
    for name in sections:
        annotation = fields[name].annotation
        kinds = [kind for kind in (typing.get_args(annotation) or (annotation,)) if hasattr(kind, "model_fields")]
        fields = kinds[0].model_fields
    assert last in fields
