"""Ids and statuses of clusters from day to day: kept, born, merged or retired.

`matching` pairs today's clusters with those of the day before; this module says what follows for ids and names. Ids are
never used twice: a cluster born on a day gets that day's number times `IDS_PER_DAY` plus its place by size. A day that
is run again gives the same ids, and no other day can give them, in whatever order days are run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np

from shelfkin.artifacts import Manifest
from shelfkin.clustering import drift
from shelfkin.clustering.matching import MATCH_COSINE, match, overlaps
from shelfkin.clustering.members import Members
from shelfkin.clustering.vectors import FloatArray, IntArray
from shelfkin.lineage import LINEAGE_FORMAT, check_format, lineage_record

# int32 holds ids of this form until the year 2557.
IDS_PER_DAY = 10_000
_EPOCH = date(1970, 1, 1)

# A name stays while the centroid has hardly moved since the name was made, and the products since the day before. A
# cluster that loses or wins a third of its products at once is another shelf.
SAME_NAME_COSINE = 0.95
SAME_NAME_OVERLAP = 2 / 3

# Enough to tell a cosine to three digits, in half the space.
_NAME_DECIMALS = 3


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
    named_from
        Centroids that the names that stay were made from, by id: shape (d,) each.
    splits
        By id of a born cluster: split_from, the living cluster that most of its common products came from, n_common,
        and n_from, how many came from there. None where members aren't known.
    gone
        Clusters of the predecessor without a successor: cluster_id, name, size, status ``merged`` (most of its common
        products, or without members the nearest centroid, are in the cluster `into`) or ``retired``; with members also
        n_common, and for merged ones n_into.
    drift
        What moved since the predecessor; None where its members aren't known.
    note
        How the predecessor was used, for a person.
    """

    ids: tuple[int, ...]
    statuses: tuple[str, ...]
    kept_names: Mapping[int, str] = field(default_factory=dict)
    named_from: Mapping[int, FloatArray] = field(default_factory=dict)
    splits: Mapping[int, Mapping[str, int]] | None = None
    gone: tuple[Mapping[str, Any], ...] = ()
    drift: drift.Drift | None = None
    note: str = ""

    def split_from(self, cluster_id: int) -> int | None:
        """Return the cluster that a born one was split from, or None."""
        return (self.splits or {}).get(cluster_id, {}).get("split_from")

    def metrics(self) -> dict[str, float | int | str | None]:
        """Return counts of what happened, the note and the drift, as scalars for a manifest."""
        gone = [cluster["status"] for cluster in self.gone]
        return {
            "clusters_born": self.statuses.count("born"),
            "clusters_kept": self.statuses.count("kept"),
            "clusters_merged": gone.count("merged"),
            "clusters_split": None if self.splits is None else len(self.splits),
            "clusters_retired": gone.count("retired"),
            "identity_note": self.note,
            **drift.metrics(self.drift),
        }


def embedding_model(embedded: Manifest) -> str:
    """Return what centroids of two days must share to be compared: provider, model and dimensions of embed_products."""
    metrics = embedded.content["metrics"]
    return "/".join(str(metrics.get(part, "unknown")) for part in ("provider", "model", "dimensions"))


def born_id(day: date, ordinal: int) -> int:
    """Return the id of the `ordinal`-th cluster (from 0, by size) of a day."""
    if not 0 <= ordinal < IDS_PER_DAY:
        raise ValueError(f"ordinal {ordinal} is not in [0, {IDS_PER_DAY})")
    return (day - _EPOCH).days * IDS_PER_DAY + ordinal


def identify(
    centroids: FloatArray,
    day: date,
    model: str,
    predecessor: Mapping[str, Any] | None,
    members: Members | None = None,
    why_not: str = "",
) -> Identities:
    """Give each of today's clusters the id of the predecessor's cluster that it continues, or a new one.

    Pairs are those of `matching.match`, on centroids and common products.

    Parameters
    ----------
    centroids
        Shape (k, d), unit rows, heaviest cluster first.
    day
        The run's as_of.
    model
        Embedding model; centroids of another one can't be compared, but products can.
    predecessor
        Content of the newest older lineage, or None on the first run.
    members
        Products in each of the predecessor's clusters and each of today's, or None if unknown.
    why_not
        Why `members` is unknown, for a person.
    """
    born = tuple(born_id(day, ordinal) for ordinal in range(len(centroids)))
    if predecessor is None:
        return Identities(born, ("born",) * len(born), note="first run: no earlier clusters")
    old = _clusters(predecessor)
    comparable = comparable_centroids(predecessor, model, centroids.shape[1])
    cosines = None if comparable is None else comparable @ centroids.T
    common = None if members is None else members.common
    pairs = match(cosines, common)
    ids = tuple(int(old[pairs[place]]["cluster_id"]) if place in pairs else born[place] for place in range(len(born)))
    lost = sorted(set(range(len(old))) - set(pairs.values()))
    named_from = _named_from(old)
    same = {
        new: before
        for new, before in pairs.items()
        if _same_content(None if cosines is None else named_from[before] @ centroids[new], common, before, new)
    }
    moved = None if members is None else drift.measure(members, ids_of(predecessor), ids, str(predecessor.get("as_of")))
    return Identities(
        ids=ids,
        statuses=tuple("kept" if place in pairs else "born" for place in range(len(born))),
        kept_names={ids[new]: str(old[before]["name"]) for new, before in same.items()},
        # Centroids of another model can't be compared with tomorrow's.
        named_from={} if cosines is None else {ids[new]: named_from[before] for new, before in same.items()},
        splits=None if common is None else _splits(common, ids, pairs, old),
        gone=tuple(_gone(old[before], before, cosines, common, ids) for before in lost),
        drift=moved,
        note=_note(predecessor, cosines is not None, common is not None, why_not),
    )


def _named_from(old: Sequence[Mapping[str, Any]]) -> list[FloatArray]:
    """Return the centroid that each old cluster's name was made from: its own, if the name was made that day."""
    return [np.asarray(cluster.get("named_from") or cluster["centroid"], dtype=np.float64) for cluster in old]


def _same_content(cosine: float | None, common: IntArray | None, old: int, new: int) -> bool:
    """Whether a cluster is still what its name was made from; the cosine is None where it can't be known."""
    if cosine is not None and round(float(cosine), 3) < SAME_NAME_COSINE:
        return False
    # A cluster all of whose products were replaced is judged by its centroid.
    if common is None or not common[old].any() or not common[:, new].any():
        return True
    return bool(overlaps(common)[old, new] >= SAME_NAME_OVERLAP)


def _splits(
    common: IntArray, ids: Sequence[int], pairs: Mapping[int, int], old: Sequence[Mapping[str, Any]]
) -> dict[int, dict[str, int]]:
    """Return the born clusters most of whose common products came from one old cluster that lives on."""
    living = set(pairs.values())
    splits = {}
    for place in sorted(set(range(len(ids))) - set(pairs)):
        came = common[:, place]
        source = int(came.argmax())
        if source in living and 2 * came[source] > came.sum():
            splits[ids[place]] = {
                "split_from": int(old[source]["cluster_id"]),
                "n_common": int(came.sum()),
                "n_from": int(came[source]),
            }
    return splits


def _gone(
    cluster: Mapping[str, Any], row: int, cosines: FloatArray | None, common: IntArray | None, ids: Sequence[int]
) -> dict[str, Any]:
    """Return what became of an old cluster that no cluster of today continues."""
    known = {key: cluster[key] for key in ("cluster_id", "name", "size")}
    if common is not None:
        went, heir = common[row], int(common[row].argmax())
        if 2 * went[heir] > went.sum():
            counts = {"into": ids[heir], "n_common": int(went.sum()), "n_into": int(went[heir])}
            return {**known, "status": "merged", **counts}
        return {**known, "status": "retired", "n_common": int(went.sum())}
    if cosines is not None:
        heir = int(cosines[row].argmax())
        if round(float(cosines[row, heir]), 6) >= MATCH_COSINE:
            return {**known, "status": "merged", "into": ids[heir]}
    return {**known, "status": "retired"}


def _note(predecessor: Mapping[str, Any], by_centroids: bool, by_products: bool, why_not: str) -> str:
    since = predecessor.get("as_of", "an unknown day")
    reason = f" ({why_not})" if why_not else ""
    if by_centroids and by_products:
        note = f"compared with the clusters as of {since} by centroids and products"
    elif by_centroids:
        note = f"compared with the clusters as of {since} by centroids only{reason}"
    elif by_products:
        note = f"the embedding model changed since {since}: compared by products only"
    else:
        note = f"the embedding model changed since {since}: all clusters are new{reason}"
    mark = predecessor.get("stale")
    if mark:
        note += f"; these are stale themselves: those as of {mark['because_of']} were made after them"
    return note


def _clusters(lineage: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    check_format(lineage)
    return list(lineage["clusters"])


def ids_of(lineage: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the cluster ids of a lineage, in its order."""
    return tuple(int(cluster["cluster_id"]) for cluster in _clusters(lineage))


def sizes_of(lineage: Mapping[str, Any]) -> FloatArray:
    """Return the numbers of products of a lineage's clusters: shape (k,), in its order."""
    return np.asarray([cluster["size"] for cluster in _clusters(lineage)], dtype=np.float64)


def centroids_of(lineage: Mapping[str, Any]) -> FloatArray:
    """Return the centroids of a lineage: shape (k, d), float64, in the lineage's order."""
    return np.asarray([cluster["centroid"] for cluster in _clusters(lineage)], dtype=np.float64)


def comparable_centroids(lineage: Mapping[str, Any] | None, model: str, dimensions: int) -> FloatArray | None:
    """Return the centroids of a lineage, or None where there is none or its vectors are of another model."""
    if lineage is None or lineage.get("model") != model:
        return None
    centroids = centroids_of(lineage)
    return centroids if centroids.shape[1:] == (dimensions,) else None


def lineage(
    *,
    day: date,
    run_id: str,
    model: str,
    centroids: FloatArray,
    identities: Identities,
    names: Mapping[int, str],
    sizes: Mapping[int, int],
    predecessor: Mapping[str, Any] | None,
    product_clusters: str | None = None,
    members: str | None = None,
) -> dict[str, Any]:
    """Return the content of this day's lineage file.

    Centroids are those that products were assigned with, so that the next day compares with exactly what was stored.

    Parameters
    ----------
    product_clusters
        Path of the table, relative to the artifact root: the next day counts common products with it.
    members
        Fingerprint of that table (`members.fingerprint`).
    """
    flows = identities.drift.flows.to_dict("index") if identities.drift else {}
    return {
        "format_version": LINEAGE_FORMAT,
        "as_of": day.isoformat(),
        "run_id": run_id,
        "model": model,
        "product_clusters": product_clusters,
        "members": members,
        "predecessor": None if predecessor is None else lineage_record(predecessor),
        "clusters": [
            {
                "cluster_id": cluster,
                "name": names.get(cluster, ""),  # a cluster without products has none
                "size": int(sizes.get(cluster, 0)),
                "status": status,
                **((identities.splits or {}).get(cluster, {})),
                **flows.get(cluster, {}),
                **_name_origin(identities, cluster, names.get(cluster, "")),
                "centroid": [float(value) for value in centroid],
            }
            for cluster, status, centroid in zip(identities.ids, identities.statuses, centroids, strict=True)
        ],
        "gone": [dict(cluster) for cluster in identities.gone],
        "drift": drift.metrics(identities.drift),
    }


def _name_origin(identities: Identities, cluster_id: int, name: str) -> dict[str, list[float]]:
    """Return the centroid that a name which stayed was made from; a new name is made from today's."""
    origin = identities.named_from.get(cluster_id)
    if origin is None or identities.kept_names[cluster_id] != name:
        return {}
    return {"named_from": [float(value) for value in np.round(origin, _NAME_DECIMALS)]}
