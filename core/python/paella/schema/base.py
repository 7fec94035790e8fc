"""What all types of the configuration are made of."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=1)]
Size = Annotated[int, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
NonNegative = Annotated[float, Meta(ge=0)]
Seed = Annotated[int, Meta(ge=0, lt=2**32)]
Origin = Literal["paper", "ours"]  # of a system, or a claim


def doc(text: str) -> Meta:
    """What a field means, with its unit. Reference pages and editors' schemas take it from here."""
    return Meta(description=text)


class Strict(Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all: immutable, and a misspelt key is an error."""
