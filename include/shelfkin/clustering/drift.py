"""How far the clusters moved since the day before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from shelfkin.clustering.members import Members
from shelfkin.clustering.vectors import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Drift:
    """What changed since an earlier day.

    Attributes
    ----------
    since
        The earlier day.
    ari
        Adjusted Rand index of both clusterings over the common products; None without any.
    n_common, n_new, n_gone
        Products in both catalogues, in today's only, in the older one only.
    flows
        Products of each cluster of either day, indexed by its id: n_stayed (in it on both days), n_came and n_left (in
        both catalogues, and in another cluster before, or now), n_new and n_gone (in one catalogue only).
    """

    since: str
    ari: float | None
    n_common: int
    n_new: int
    n_gone: int
    flows: pd.DataFrame

    @property
    def n_moved(self) -> int:
        """Common products whose cluster id changed."""
        return int(self.flows["n_left"].sum())

    @property
    def share_moved(self) -> float | None:
        """Share of the common products whose cluster id changed; None without any."""
        return round(self.n_moved / self.n_common, 6) if self.n_common else None

    @property
    def kept(self) -> str:
        """Share of the common products that kept their cluster, in per cent; 100% means all of them, and 0% none."""
        if not self.n_common:
            return "none"
        per_cent = round(100 * (1 - (self.share_moved or 0.0)), 1)
        if self.n_moved:
            per_cent = min(per_cent, 99.9)
        if self.n_moved < self.n_common:
            per_cent = max(per_cent, 0.1)
        return f"{per_cent:g}%"

    def sentence(self) -> str:
        """Return the drift in one sentence for a person."""
        catalogue = f"{self.n_new:,} are new and {self.n_gone:,} are gone"
        if not self.n_common:
            return f"no product is in the catalogue since {self.since}; {catalogue}"
        return (
            f"{self.kept} of the {self.n_common:,} products known since {self.since} kept their "
            f"cluster (adjusted Rand index {self.ari:.3f}); {catalogue}"
        )


def metrics(drift: Drift | None) -> dict[str, float | int | None]:
    """Return the drift as scalars for a manifest; all None where there is nothing to compare with."""
    return {
        "drift_ari": None if drift is None else drift.ari,
        "share_moved": None if drift is None else drift.share_moved,
        "products_common": None if drift is None else drift.n_common,
        "products_new": None if drift is None else drift.n_new,
        "products_gone": None if drift is None else drift.n_gone,
    }


def measure(members: Members, old_ids: Sequence[int], new_ids: Sequence[int], since: str) -> Drift:
    """Compare two days.

    Parameters
    ----------
    members
        Counts; rows in the order of `old_ids`, columns in that of `new_ids`.
    old_ids, new_ids
        Cluster ids of the two days; a cluster that goes on has one id on both.
    since
        The older day.
    """
    n_common = int(members.common.sum())
    return Drift(
        since=since,
        ari=None if not n_common else round(adjusted_rand_index(members.common), 6),
        n_common=n_common,
        n_new=int(members.new.sum()),
        n_gone=int(members.gone.sum()),
        flows=_flows(members, old_ids, new_ids),
    )


def _flows(members: Members, old_ids: Sequence[int], new_ids: Sequence[int]) -> pd.DataFrame:
    """Return the counts of `Drift.flows`; a cluster that isn't there on a day has no products on it."""
    old, new = pd.Index(old_ids), pd.Index(new_ids)
    ids = old.union(new)
    common = pd.DataFrame(members.common, old, new).reindex(index=ids, columns=ids, fill_value=0)
    stayed = np.diag(common)
    return pd.DataFrame(
        {
            "n_stayed": stayed,
            "n_came": common.sum(axis=0) - stayed,
            "n_left": common.sum(axis=1) - stayed,
            "n_new": pd.Series(members.new, new).reindex(ids, fill_value=0),
            "n_gone": pd.Series(members.gone, old).reindex(ids, fill_value=0),
        }
    )


def adjusted_rand_index(common: IntArray) -> float:
    """Return the adjusted Rand index (Hubert & Arabie, 1985) of two clusterings of the same products.

    1 means the same clusters, 0 no more agreement than by chance.

    Parameters
    ----------
    common
        Contingency table, shape (k_old, k_new). Pairs are counted in float64: 1e8 products make 5e15 pairs, whose
        products would overflow 64-bit integers.
    """
    together = _pairs(common)
    by_old, by_new = _pairs(common.sum(axis=1)), _pairs(common.sum(axis=0))
    everything = _pairs(common.sum())
    if everything == 0:
        return 1.0
    expected = by_old * (by_new / everything)
    largest = (by_old + by_new) / 2
    # Both put all products in one cluster, or each in its own: they agree, and there is nothing to adjust.
    return 1.0 if largest == expected else float((together - expected) / (largest - expected))


def _pairs(counts: IntArray | FloatArray) -> float:
    n = np.asarray(counts, dtype=np.float64)
    return float((n * (n - 1) / 2).sum())
