"""Models with their shares of the requests: config/mixes.yaml."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from paella.schema.base import Count, Positive, Strict, doc


class MixModel(Strict, frozen=True):
    """One model of a mix."""

    model: Annotated[str, doc("A key of the profile's models.")]
    proportion: Annotated[Positive, doc("Share of the requests.")]
    instances: Annotated[Count, doc("Jobs of the model that can be in flight.")]


class Mix(Strict, frozen=True):
    """Models with their shares of the requests, in the order of the trace's indices."""

    name: Annotated[str, doc("The key in the file.")]
    models: Annotated[
        list[MixModel], Meta(min_length=1), doc("Their proportions sum to 1; no model twice.")
    ]
    cap: Annotated[Count, doc("Requests in flight, where a system has no cap of its own.")]

    def __post_init__(self) -> None:
        total = sum(m.proportion for m in self.models)
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the proportions sum to {total:.6g}, not to 1")
        names = [m.model for m in self.models]
        for twice in names:
            if names.count(twice) > 1:
                raise ValueError(f"model {twice} is listed twice")
