"""Identity of clusters along as_of: which of today's clusters is which of the day before.

Ids are never used twice: a cluster born on a day gets that day's number times `IDS_PER_DAY` plus its place by size. A
day that is run again gives the same ids, and no other day can give them, in whatever order days are run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from shelfkin.clustering.kmeans import FloatArray
from shelfkin.errors import ArtifactError

# int32 holds ids of this form until the year 2557.
IDS_PER_DAY = 10_000
_EPOCH = date(1970, 1, 1)

# Centroids of different clusters of one day reach a cosine of 0.87 at most (bundled model: Complete Journey with 44
# clusters, Online Retail with 33), so that above 0.9 it is the same cluster.
MATCH_COSINE = 0.9

# A name stays while the centroid has hardly moved; below, the content is no longer what the name was made from.
SAME_NAME_COSINE = 0.95

LINEAGE_FORMAT = 1


@dataclass(frozen=True)
class Identities:
    """Ids and statuses of today's clusters.

    Attributes
    ----------
    ids
        Id of each of today's clusters, in their order.
    statuses
        ``kept`` or ``born``, in the same order.
    kept_names
        Names that stay, by id.
    gone
        Clusters of the predecessor without a successor: cluster_id, name, status ``merged`` (its centroid is close to
        a cluster that another id continues; `into` names that) or ``retired``.
    note
        How the predecessor was used, for a person.
    """

    ids: tuple[int, ...]
    statuses: tuple[str, ...]
    kept_names: Mapping[int, str] = field(default_factory=dict)
    gone: tuple[Mapping[str, Any], ...] = ()
    note: str = ""


def born_id(day: date, ordinal: int) -> int:
    """Return the id of the `ordinal`-th cluster (from 0, by size) of a day."""
    if not 0 <= ordinal < IDS_PER_DAY:
        raise ValueError(f"ordinal {ordinal} is not in [0, {IDS_PER_DAY})")
    return (day - _EPOCH).days * IDS_PER_DAY + ordinal


def identify(centroids: FloatArray, day: date, model: str, predecessor: Mapping[str, Any] | None) -> Identities:
    """Give each of today's clusters the id of the predecessor's cluster that it continues, or a new one.

    The pairing maximises the sum of centroid cosines (Kuhn, 1955, as scipy's linear_sum_assignment); pairs below
    `MATCH_COSINE` don't count as the same cluster.

    Parameters
    ----------
    centroids
        Shape (k, d), unit rows, heaviest cluster first.
    day
        The run's as_of.
    model
        Embedding model; centroids of another one can't be compared, and all clusters are born again.
    predecessor
        Content of the newest older lineage, or None on the first run.
    """
    born = tuple(born_id(day, ordinal) for ordinal in range(len(centroids)))
    if predecessor is None:
        return Identities(born, ("born",) * len(born), note="first run: no earlier clusters")
    old = _clusters(predecessor)
    since = predecessor.get("as_of", "an unknown day")
    previous = centroids_of(predecessor)
    if predecessor.get("model") != model or previous.shape[1:] != centroids.shape[1:]:
        gone = tuple(_gone(cluster, "retired") for cluster in old)
        note = f"the embedding model changed since {since}: all clusters are new"
        return Identities(born, ("born",) * len(born), gone=gone, note=note)
    cosines = np.round(centroids @ previous.T, 6)
    pairs = {
        int(new): int(before)
        for new, before in zip(*linear_sum_assignment(-cosines), strict=True)
        if cosines[new, before] >= MATCH_COSINE
    }
    ids = tuple(int(old[pairs[place]]["cluster_id"]) if place in pairs else born[place] for place in range(len(born)))
    statuses = tuple("kept" if place in pairs else "born" for place in range(len(born)))
    names = {
        ids[new]: str(old[before]["name"]) for new, before in pairs.items() if cosines[new, before] >= SAME_NAME_COSINE
    }
    gone = tuple(
        _gone_from(old[before], cosines[:, before], ids)
        for before in sorted(set(range(len(old))) - set(pairs.values()))
    )
    return Identities(ids, statuses, names, gone, f"compared with the clusters as of {since}")


def _gone_from(cluster: Mapping[str, Any], cosines: FloatArray, ids: Sequence[int]) -> dict[str, Any]:
    nearest = int(cosines.argmax())
    if cosines[nearest] >= MATCH_COSINE:
        return {**_gone(cluster, "merged"), "into": ids[nearest]}
    return _gone(cluster, "retired")


def _gone(cluster: Mapping[str, Any], status: str) -> dict[str, Any]:
    return {"cluster_id": cluster["cluster_id"], "name": cluster["name"], "status": status}


def _clusters(lineage: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if lineage.get("format_version") != LINEAGE_FORMAT:
        raise ArtifactError(
            f"The lineage as of {lineage.get('as_of')} has format_version {lineage.get('format_version')!r}; "
            f"this code reads {LINEAGE_FORMAT}.",
            next_step="Run that day again with this version of shelfkin.",
        )
    return list(lineage["clusters"])


def centroids_of(lineage: Mapping[str, Any]) -> FloatArray:
    """Return the centroids of a lineage: shape (k, d), float64, in the lineage's order."""
    return np.asarray([cluster["centroid"] for cluster in _clusters(lineage)], dtype=np.float64)


def lineage(
    *,
    day: date,
    run_id: str,
    model: str,
    centroids: FloatArray,
    found: Identities,
    names: Mapping[int, str],
    sizes: Mapping[int, int],
    predecessor: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return the content of this day's lineage file.

    Centroids are those that products were assigned with, so that the next day compares with, and starts from, exactly
    what was stored. The predecessor's date and run say what a rewritten day makes stale.
    """
    return {
        "format_version": LINEAGE_FORMAT,
        "as_of": day.isoformat(),
        "run_id": run_id,
        "model": model,
        "predecessor": None
        if predecessor is None
        else {"as_of": predecessor.get("as_of"), "run_id": predecessor.get("run_id")},
        "clusters": [
            {
                "cluster_id": cluster_id,
                "name": names[cluster_id],
                "size": int(sizes.get(cluster_id, 0)),
                "status": status,
                "centroid": [float(value) for value in centroid],
            }
            for cluster_id, status, centroid in zip(found.ids, found.statuses, centroids, strict=True)
        ],
        "gone": [dict(cluster) for cluster in found.gone],
    }
