"""What a token costs, and what a run may spend. The prices themselves stand, with their dates, in data/prices.yaml."""

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


@dataclass(frozen=True)
class Budget:
    """What a run may spend; None: no limit."""

    tokens: int | None = None
    usd: float | None = None

    def crossed_by(self, n_tokens: int, usd_per_token: float) -> str | None:
        """Return the limit that `n_tokens` would cross, in words, or None."""
        if self.tokens is not None and n_tokens > self.tokens:
            return f"{self.tokens:,} tokens"
        if self.usd is not None and n_tokens * usd_per_token > self.usd:
            return f"${self.usd:,.2f}"
        return None

    def after(self, n_tokens: int, usd_per_token: float) -> Budget:
        """Return what is left when `n_tokens` are spent."""
        return Budget(
            None if self.tokens is None else self.tokens - n_tokens,
            None if self.usd is None else self.usd - n_tokens * usd_per_token,
        )


def price_of(provider: Provider, mode: Mode, own_usd_per_million: float | None) -> Price:
    """Return a provider's price; the profile's own figure goes before the table, and unknown models cost nothing.

    Parameters
    ----------
    mode
        ``standard``, or ``batch`` for the Batch API, which costs half.
    own_usd_per_million
        The profile's figure for the standard mode; None: as the table says.
    """
    if own_usd_per_million is not None:
        return Price(own_usd_per_million / 1e6 / (2 if mode == "batch" else 1), "store profile")
    table = _table()
    known = table["usd_per_million_tokens"].get(provider.model) if provider.kind != "local" else None
    if known is None:
        return Price(0.0, "no price is known" if provider.kind != "local" else "runs on this machine")
    return Price(known[mode] / 1e6, f"price table of {table['as_of']}")


@functools.cache
def _table() -> dict:
    text = (resources.files("shelfkin.embedding") / "data" / "prices.yaml").read_text()
    return dict(yaml.safe_load(text))
