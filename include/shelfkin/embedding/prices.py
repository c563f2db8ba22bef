"""What a token costs, by the dated price table that comes with the package."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import resources
from typing import Literal

import yaml

from shelfkin.embedding.provider import Provider

Mode = Literal["standard", "batch"]


@dataclass(frozen=True)
class Price:
    """US dollars per token, and where the figure is from."""

    usd_per_token: float
    source: str


def price_of(provider: Provider, mode: Mode, own_usd_per_million: float | None) -> Price:
    """Return a provider's price; the profile's own figure goes before the table, and unknown models cost nothing.

    Parameters
    ----------
    mode
        ``standard``, or ``batch`` for the Batch API.
    own_usd_per_million
        The profile's figure, already for this mode; None: as the table says.
    """
    if own_usd_per_million is not None:
        return Price(own_usd_per_million / 1e6, "store profile")
    table = _table()
    known = table["usd_per_million_tokens"].get(provider.model) if provider.kind != "local" else None
    if known is None:
        return Price(0.0, "no price is known" if provider.kind != "local" else "runs on this machine")
    return Price(known[mode] / 1e6, f"price table of {table['as_of']}")


@functools.cache
def _table() -> dict:
    text = (resources.files("shelfkin.embedding") / "data" / "prices.yaml").read_text()
    return dict(yaml.safe_load(text))
