"""Choose the number of clusters: sweep, score, and a rule that can say why.

The rule
--------
1. k runs over a geometric range within the profile's limits, because the step from 5 to 6 clusters matters as much as
   the step from 50 to 60.
2. If the silhouette has a peak inside the range (it falls from the best k to the largest by more than two standard
   errors), the data says how many groups it has: take the smallest k within one standard error of the best (the
   one-standard-error rule of Breiman et al., 1984, with fewer clusters as the simpler model). The gaps around it are
   swept as well, so that the answer isn't tied to the grid.
3. Otherwise finer clusters are always a little tighter, as in most catalogues of a real shop, and the silhouette names
   no k. Take the elbow of inertia: the k farthest below the chord between the ends of the range (Satopaa et al., 2011,
   "Finding a kneedle in a haystack"). Beyond it, one more cluster gains less than the average cluster of the range.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from threadpoolctl import threadpool_limits

from shelfkin.clustering.kmeans import cluster_sums, fit
from shelfkin.clustering.vectors import FloatArray, IntArray, n_distinct
from shelfkin.errors import DataQualityError, OptionError

if TYPE_CHECKING:
    from pyspark import SparkContext

# Largest ratio of neighbouring k in the sweep: 5, 6, 8, 9, 11, 14, 17, 21, 26, 32, 40, 49, 60.
GRID_RATIO = 1.25

# At most so many further k on either side of a peak.
REFINED_PER_GAP = 4

# Starts of each fit of the sweep: its scores rank values of k, the final fit takes more.
SWEEP_STARTS = 3

# Below this silhouette, Kaufman & Rousseeuw (1990, table 2.1) find no substantial structure; short shop texts rarely
# reach their limit of 0.25 even where aisles are plain to see, so it is a remark and not a refusal.
WEAK_SILHOUETTE = 0.1


@dataclass(frozen=True)
class KScore:
    """How well one k does on the sample.

    Attributes
    ----------
    k
        Clusters asked for.
    inertia
        Weighted sum of squared Euclidean distances to the centroid over the sample.
    silhouette
        Weighted mean cosine silhouette in [-1, 1]; None where it is undefined (k = 1, or as many clusters as vectors).
    silhouette_se
        Its standard error from the spread of the rows of the sample.
    """

    k: int
    inertia: float
    silhouette: float | None
    silhouette_se: float | None

    def describe(self) -> str:
        """Return the scores as a piece of a log line."""
        if self.silhouette is None:
            return f"inertia {self.inertia:,.1f}, silhouette undefined"
        return f"inertia {self.inertia:,.1f}, silhouette {self.silhouette:.3f} ± {self.silhouette_se or 0:.3f}"


@dataclass(frozen=True)
class Choice:
    """The chosen k and why.

    Attributes
    ----------
    rule
        ``given``, ``peak``, ``elbow`` or ``degenerate``.
    reason
        One or two sentences for a person.
    """

    k: int
    rule: Literal["given", "peak", "elbow", "degenerate"]
    reason: str
    scores: tuple[KScore, ...]

    @property
    def chosen(self) -> KScore:
        """The score of the chosen k."""
        return next(score for score in self.scores if score.k == self.k)

    def headline(self, measure: Literal["inertia", "silhouette"]) -> str:
        """Return what a plot of `measure` shows about this choice, in a few words."""
        if self.rule == "given":
            return f"k={self.k} was given"
        if self.rule == "degenerate":
            return f"k={self.k}, nothing to choose from"
        if self.rule == "peak":
            return f"silhouette peaks near k={self.k}" if measure == "silhouette" else f"inertia beyond k={self.k}"
        if measure == "inertia":
            return f"gains fade beyond k={self.k}"
        return f"silhouette has no peak up to k={self.scores[-1].k}"


def silhouette_samples(vectors: FloatArray, weights: FloatArray, labels: IntArray) -> FloatArray:
    """Return the cosine silhouette of each row, exact and without pairwise distances.

    The mean cosine distance of x to a set of unit vectors is 1 - x . (their mean), so that one product with the
    clusters' sums replaces the n x n matrix: O(n k d). A weight counts as that many copies of the row, as in
    Rousseeuw (1987) on the repeated rows; a row alone in its cluster scores 0.

    Parameters
    ----------
    vectors
        Shape (n, d), unit rows.
    weights
        Shape (n,), positive.
    labels
        Shape (n,), cluster of each row, from 0; every cluster has a row.

    Returns
    -------
    ndarray
        Shape (n,), float64, in [-1, 1].
    """
    k = int(labels.max()) + 1
    mass = np.bincount(labels, weights=weights, minlength=k)
    means = cluster_sums(vectors, weights, labels, k) / mass[:, None]
    rows = np.arange(len(labels))
    distances = np.maximum(1 - vectors.astype(np.float64) @ means.T, 0)
    # The row itself counts in its cluster's mean with distance 0; leaving it out scales the mean up.
    own = distances[rows, labels] * mass[labels] / np.maximum(mass[labels] - 1, 1)
    distances[rows, labels] = np.inf
    other = distances.min(axis=1)
    larger = np.maximum(own, other)
    alone = mass[labels] <= 1
    return np.where(alone | (larger == 0), 0.0, (other - own) / np.where(larger == 0, 1, larger))


def silhouette(vectors: FloatArray, weights: FloatArray, labels: IntArray) -> tuple[float, float]:
    """Return the weighted mean silhouette and its standard error (that of a ratio estimator)."""
    values = silhouette_samples(vectors, weights, labels)
    total = weights.sum()
    mean = float((weights * values).sum() / total)
    error = float(np.sqrt((weights**2 * (values - mean) ** 2).sum()) / total)
    return mean, error


def score_k(vectors: FloatArray, weights: FloatArray, k: int, *, seed: int = 0) -> KScore:
    """Fit one k on the sample and score it, on one thread, so that the score doesn't depend on the machine's cores."""
    with threadpool_limits(1):
        found = fit(vectors, weights, k, n_starts=SWEEP_STARTS, seed=seed, n_threads=1)
        k_found = len(found.centroids)
        if k_found < 2 or k_found >= len(vectors):
            return KScore(k, round(found.inertia, 4), None, None)
        mean, error = silhouette(vectors, weights, found.labels)
    return KScore(k, round(found.inertia, 4), round(mean, 6), round(error, 6))


def score_all(
    context: SparkContext, vectors: FloatArray, weights: FloatArray, ks: Sequence[int], *, seed: int = 0
) -> list[KScore]:
    """Score several k as parallel Spark tasks; the sample is sent to each executor once."""
    if not ks:
        return []
    shared = context.broadcast((vectors, weights))
    # The largest k takes longest: first come, first served.
    order = sorted(ks, reverse=True)
    scores = context.parallelize(order, len(order)).map(lambda k: score_k(*shared.value, k, seed=seed)).collect()
    shared.unpersist()
    return sorted(scores, key=lambda score: score.k)


def k_grid(k_min: int, k_max: int) -> list[int]:
    """Return a geometric range of k from `k_min` to `k_max`, both included; empty if k_min > k_max."""
    if k_min > k_max:
        return []
    n_steps = max(1, math.ceil(math.log(k_max / k_min) / math.log(GRID_RATIO)))
    return sorted({round(float(k)) for k in np.geomspace(k_min, k_max, n_steps + 1)})


def refined_around(k: int, swept: Sequence[int]) -> list[int]:
    """Return at most `REFINED_PER_GAP` new k between `k` and each of its neighbours in the sweep."""
    swept = sorted(swept)
    place = swept.index(k)
    gaps = [swept[place - 1 : place + 1], swept[place : place + 2]] if place else [swept[:2]]
    found: set[int] = set()
    for gap in gaps:
        if len(gap) == 2:
            between = range(gap[0] + 1, gap[1])
            step = max(1, math.ceil(len(between) / REFINED_PER_GAP))
            found.update(between[::step])
    return sorted(found)


def check_given_k(k: int, n_vectors: int) -> None:
    """Raise OptionError if a given k can't be had from this many distinct vectors."""
    if k > n_vectors:
        raise OptionError(
            f"k={k} exceeds {n_vectors:,} distinct vectors; lower --k",
            next_step=f"Pass --k {n_vectors} or less, or --k auto.",
        )


def choose_on_sample(
    context: SparkContext,
    vectors: FloatArray,
    weights: FloatArray,
    *,
    k_min: int,
    k_max: int,
    given: int | None = None,
    seed: int = 0,
) -> Choice:
    """Sweep k on a sample and choose.

    Parameters
    ----------
    vectors, weights
        Shapes (n, d) and (n,): the sample, see `vectors.sample`.
    k_min, k_max
        The profile's limits. k is also less than the number of distinct vectors.
    given
        A k that the user asked for: it is used, and scored beside the sweep.

    Raises
    ------
    DataQualityError
        There are no vectors.
    OptionError
        `given` exceeds the number of distinct vectors.
    """
    if not len(vectors):
        raise DataQualityError(
            "There are no product vectors to cluster.", next_step="Check what embed_products and clean_catalog kept."
        )
    n_different = n_distinct(vectors)
    if given is not None:
        check_given_k(given, n_different)
    ks = set(k_grid(k_min, min(k_max, n_different - 1)))
    scores = score_all(context, vectors, weights, sorted(ks | ({given} if given else set())), seed=seed)
    if given is not None:
        return _given(given, scores)
    if not ks:
        return _degenerate(score_k(vectors, weights, min(n_different, k_min), seed=seed), n_different, k_min)
    first = choose(scores)
    if first.rule != "peak":
        return first
    more = score_all(context, vectors, weights, refined_around(first.k, sorted(ks)), seed=seed)
    return choose(sorted([*scores, *more], key=lambda score: score.k))


def choose(scores: Sequence[KScore]) -> Choice:
    """Apply the rule at the head of this module to a sweep.

    Parameters
    ----------
    scores
        At least one, ordered by k.
    """
    scored = [score for score in scores if score.silhouette is not None]
    if len(scored) < 2:
        return Choice(scores[0].k, "degenerate", _only_one(scores[0]), tuple(scores))
    best = max(scored, key=lambda score: (_value(score), -score.k))
    last = scored[-1]
    fall = _value(best) - _value(last)
    if best is not last and fall > 2 * math.hypot(_error(best), _error(last)):
        chosen = next(score for score in scored if _value(score) >= _value(best) - _error(best))
        return Choice(chosen.k, "peak", _peak_reason(chosen, best, last), tuple(scores))
    chosen = elbow(scored)
    return Choice(chosen.k, "elbow", _elbow_reason(chosen, scored), tuple(scores))


def elbow(scores: Sequence[KScore]) -> KScore:
    """Return the score farthest below the chord from the first to the last (k, inertia), both axes scaled to [0, 1]."""
    first, last = scores[0], scores[-1]
    width = max(last.k - first.k, 1)
    height = max(first.inertia - last.inertia, 1e-12)

    def gap(score: KScore) -> float:
        return (first.inertia - score.inertia) / height - (score.k - first.k) / width

    return max(scores, key=lambda score: (round(gap(score), 9), -score.k))


def _value(score: KScore) -> float:
    return -math.inf if score.silhouette is None else score.silhouette


def _error(score: KScore) -> float:
    return score.silhouette_se or 0.0


def _shown(score: KScore) -> str:
    return f"{_value(score):.3f} ± {_error(score):.3f}"


def _weak(score: KScore) -> str:
    if _value(score) >= WEAK_SILHOUETTE:
        return ""
    return (
        f" Groups are not clear-cut here (silhouette below {WEAK_SILHOUETTE}): "
        "read the clusters as a division of a continuum."
    )


def _peak_reason(chosen: KScore, best: KScore, last: KScore) -> str:
    if chosen is best:
        lead = f"k={chosen.k} has the best silhouette of the sweep, {_shown(chosen)}"
    else:
        lead = (
            f"k={chosen.k} is the smallest k whose silhouette, {_shown(chosen)}, is within one standard error "
            f"of the best, {_shown(best)} at k={best.k}"
        )
    return f"{lead}; it falls to {_value(last):.3f} at k={last.k}.{_weak(best)}"


def _elbow_reason(chosen: KScore, scores: Sequence[KScore]) -> str:
    first, last = scores[0], scores[-1]
    return (
        f"The silhouette has no peak between k={first.k} and k={last.k} ({_value(first):.3f} to {_value(last):.3f}): "
        f"finer clusters are always a little tighter. k={chosen.k} is the elbow of inertia: beyond it, one more "
        f"cluster gains less than the average cluster of this range.{_weak(chosen)}"
    )


def _only_one(score: KScore) -> str:
    return f"k={score.k} is the only k that the limits and the data leave."


def _given(k: int, scores: list[KScore]) -> Choice:
    automatic = choose([score for score in scores if score.silhouette is not None] or scores)
    beside = "" if automatic.k == k else f" The automatic rule would take k={automatic.k} ({automatic.rule})."
    return Choice(k, "given", f"k={k} was given.{beside}", tuple(scores))


def _degenerate(score: KScore, n_different: int, k_min: int) -> Choice:
    if n_different == 1:
        reason = "All products share one text vector, so there is one cluster (k=1)."
    elif score.k == n_different:
        reason = (
            f"There are only {n_different} distinct vectors, no more than k_min={k_min}: "
            f"each becomes a cluster of its own (k={n_different})."
        )
    else:
        reason = _only_one(score)
    return Choice(score.k, "degenerate", reason, (score,))
