"""What every section of the config is, and how its validators say what is wrong."""

from __future__ import annotations

from collections.abc import Iterable

import pydantic
from pydantic_core import PydanticCustomError


def mistake(problem: str, fix: str = "", at: tuple[str | int, ...] = ()) -> PydanticCustomError:
    """What a validator raises: `at` is the place inside the validated value."""
    return mistakes([(at, problem, fix)])


def mistakes(found: Iterable[tuple[tuple[str | int, ...], str, str]]) -> PydanticCustomError:
    """Several at once, each with place, problem and fix."""
    return PydanticCustomError("mistakes", "several mistakes", {"found": tuple(found)})


class Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", coerce_numbers_to_str=True, validate_by_name=True, validate_by_alias=True
    )
