"""What all types of the configuration are made of."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

# With upper bounds: 32 bits for what is counted; what a double holds exactly for bytes; and for
# all else what in microseconds is eleven days, so that sums of times stay far below 2**63 ns.
Count = Annotated[int, Meta(ge=1, lt=2**31)]
Size = Annotated[int, Meta(ge=0, le=2**53)]
Bytes = Annotated[int, Meta(ge=1, le=2**53)]
Positive = Annotated[float, Meta(gt=0, le=1e12)]
NonNegative = Annotated[float, Meta(ge=0, le=1e12)]
Seconds = Annotated[float, Meta(gt=0, le=1e6)]
Seed = Annotated[int, Meta(ge=0, lt=2**32)]
Origin = Literal["paper", "ours"]  # of a system, or a claim


def doc(text: str) -> Meta:
    """What a field means, with its unit. Reference pages and editors' schemas take it from here."""
    return Meta(description=text)


class Strict(Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all: immutable, and a misspelt key is an error."""
