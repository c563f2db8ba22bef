"""Choose the number of clusters: a sweep over k on a sample, scored in parallel Spark tasks; `k_rule` decides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from shelfkin.clustering.k_rule import KChoice, Limits, apply_rule, check_structure, only_one, sweep_centre
from shelfkin.clustering.k_scores import KScore, score_all, score_k
from shelfkin.clustering.structure import silhouette_of_clouds
from shelfkin.clustering.vectors import FloatArray, n_distinct
from shelfkin.errors import DataQualityError, OptionError

if TYPE_CHECKING:
    from pyspark import SparkContext

# Largest ratio of neighbouring k in the sweep: 5, 6, 8, 9, 11, 14, 17, 21, 26, 32, 40, 49, 60.
GRID_RATIO = 1.25

# At most so many further k on either side of the best, and so many rounds of them: from gaps of 16 to neighbours.
REFINED_PER_GAP, REFINING_ROUNDS = 4, 3


def k_grid(k_min: int, k_max: int) -> list[int]:
    """Return a geometric range of k from `k_min` to `k_max`, both included; empty if k_min > k_max."""
    if k_min > k_max:
        return []
    n_steps = max(1, math.ceil(math.log(k_max / k_min) / math.log(GRID_RATIO)))
    return sorted({round(k) for k in np.geomspace(k_min, k_max, n_steps + 1)})


def refined_around(k: int, swept: Sequence[int]) -> list[int]:
    """Return at most `REFINED_PER_GAP` new k between `k` and each of its neighbours in the sweep."""
    swept = sorted(swept)
    place = swept.index(k)
    refined: list[int] = []
    for low, high in pairwise(swept[max(place - 1, 0) : place + 2]):
        between = range(low + 1, high)
        refined += between[:: max(1, math.ceil(len(between) / REFINED_PER_GAP))]
    return refined


def check_given_k(k: int, n_vectors: int) -> None:
    """Raise OptionError if a given k can't be had from this many distinct vectors."""
    if k > n_vectors:
        raise OptionError(
            f"k={k} exceeds {n_vectors:,} distinct vectors; lower --k",
            next_step=f"Pass --k {n_vectors} or less, or --k auto.",
        )


def choose_k(
    context: SparkContext,
    vectors: FloatArray,
    weights: FloatArray,
    limits: Limits,
    *,
    given: int | None = None,
    yesterday: int | None = None,
    seed: int = 0,
) -> KChoice:
    """Sweep k on a sample and choose.

    Parameters
    ----------
    vectors, weights
        Shapes (n, d) and (n,): the sample, see `vectors.sample`.
    limits
        The profile's limits. k is also less than the number of distinct vectors.
    given
        A k that the user asked for: it is used, and scored beside the sweep.
    yesterday
        The k of the predecessor, where its clusters can be compared.

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
    k_max = min(limits.k_max, n_different - 1)
    ks = set(k_grid(limits.k_min, k_max))
    if given is not None:
        check_given_k(given, n_different)
        scores = score_all(context, vectors, weights, sorted(ks | {given}), seed=seed)
        return _given(given, apply_rule([score for score in scores if score.k in ks] or scores, limits), scores)
    if not ks:
        return _degenerate(score_k(vectors, weights, min(n_different, limits.k_min), seed=seed), n_different, limits)
    if yesterday is not None and limits.k_min <= yesterday <= k_max:
        ks.add(yesterday)
    else:
        yesterday = None
    scores = score_all(context, vectors, weights, sorted(ks), seed=seed)
    for _ in range(REFINING_ROUNDS):
        more = refined_around(sweep_centre(scores, limits), [score.k for score in scores])
        more_scores = score_all(context, vectors, weights, more, seed=seed)
        scores = sorted([*scores, *more_scores], key=lambda score: score.k)
    choice = apply_rule(scores, limits, yesterday=yesterday)
    if choice.rule == "degenerate":
        return choice
    of_clouds = silhouette_of_clouds(vectors, weights, choice.k, seed=seed)
    return check_structure(choice, of_clouds, limits, yesterday)


def _given(k: int, automatic: KChoice, scores: Sequence[KScore]) -> KChoice:
    beside = "" if automatic.k == k else f" The automatic rule would take k={automatic.k} ({automatic.rule})."
    return KChoice(k, "given", f"k={k} was given.{beside}", tuple(scores), automatic.candidates, automatic.runners_up)


def _degenerate(score: KScore, n_different: int, limits: Limits) -> KChoice:
    if n_different == 1:
        reason = "All products share one text vector, so there is one cluster (k=1)."
    elif score.k == n_different:
        reason = (
            f"There are only {n_different} distinct vectors, no more than k_min={limits.k_min}: "
            f"each becomes a cluster of its own (k={n_different})."
        )
    else:
        reason = only_one(score)
    return KChoice(score.k, "degenerate", reason, (score,))
