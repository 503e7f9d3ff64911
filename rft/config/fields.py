"""Types of configuration fields: numbers that reject booleans, and sections that reject unknown keys."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from rft.redaction import has_url_secret


def _no_bool(value: Any) -> Any:
    """Refuse `true` for a number, which pydantic would read as 1."""
    if isinstance(value, bool):
        raise PydanticCustomError("no_bool", "should be a number, not true or false")
    return value


def _absolute(value: str) -> str:
    """Refuse a relative folder, which would differ between processes."""
    if not value.startswith("/"):
        raise PydanticCustomError("absolute", "should be an absolute folder")
    return value


def _folder_name(value: str) -> str:
    """Refuse a name that would leave its parent folder."""
    if value in ("", ".", "..") or {"/", "\\", "\0"} & set(value):
        raise PydanticCustomError("folder_name", "should be the name of one folder: no slash, and neither . nor ..")
    return value


def _notice(value: str) -> str:
    """Refuse addresses that rft cannot poll."""
    if "://" in value and not value.startswith(("http://", "https://")):
        raise PydanticCustomError("notice", "should be a file, or an address with http:// or https://")
    return value


def _service_url(value: str) -> str:
    """Refuse addresses with a secret, which the run folder would keep, and those without a protocol."""
    if has_url_secret(value):
        raise PydanticCustomError(
            "url_secret", "should hold no user, password or key; set an environment variable and name that one"
        )
    if not value.startswith(("http://", "https://")):
        raise PydanticCustomError("http", "should begin with http:// or https://")
    return value


def _variable(value: str) -> str:
    """Refuse a secret in place of the variable that holds it."""
    if not re.fullmatch(r"[A-Za-z_]\w*", value, re.ASCII):
        raise PydanticCustomError("variable", "should be the name of an environment variable, which holds the secret")
    return value


Whole = Annotated[int, BeforeValidator(_no_bool)]
Number = Annotated[float, BeforeValidator(_no_bool), Field(allow_inf_nan=False)]
Positive = Annotated[Whole, Field(ge=1)]
NotNegative = Annotated[Whole, Field(ge=0)]
PositiveSeconds = Annotated[Number, Field(gt=0)]
Share = Annotated[Number, Field(ge=0, lt=1)]
Temperature = Annotated[Number, Field(ge=0)]
AbsoluteFolder = Annotated[str, AfterValidator(_absolute)]
FolderName = Annotated[str, AfterValidator(_folder_name)]
FileOrUrl = Annotated[str, AfterValidator(_notice)]
ServiceUrl = Annotated[str, AfterValidator(_service_url)]
VariableName = Annotated[str, AfterValidator(_variable)]


class Section(BaseModel):
    """A part of the configuration: refuses unknown keys, and is immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
