"""The rule that chooses the number of clusters from the scores of a sweep, and can say why.

`choose_k` sweeps; this module decides.

The rule
--------
1. k runs over a geometric range within the profile's limits, because the step from 5 to 6 clusters matters as much as
   the step from 50 to 60. Values whose smallest cluster would be too small for the shop, or whose largest would hold
   too much of it, are set aside.
2. *Candidates.* If the silhouette has a peak inside the range (it falls from the best k to the largest by more than two
   standard errors), the data says how many groups it has: candidates are the k within one standard error of the best
   (the one-standard-error rule of Breiman et al., 1984). Otherwise finer clusters are always a little tighter, as in
   most catalogues of a real shop, and the silhouette names no k; candidates are then the k around the elbow of inertia,
   those nearly as far below the chord between the ends of the range as the farthest (Satopaa et al., 2011, "Finding a
   kneedle in a haystack"). The gaps around the best are swept as well, so that the answer isn't tied to the grid.
3. *Stability decides* among candidates: the smallest k whose clusterings of bootstrap samples agree as well as those of
   the most stable one, within one standard error.
4. *Yesterday's k stays* unless the change is clearly better: a shop's shelves don't move for noise.
5. If the silhouette is no better than that of one structureless cloud of the same shape, there are no groups to count,
   and the smallest k (or yesterday's) is taken, and that is said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from shelfkin.clustering.k_scores import KScore

Rule = Literal["given", "peak", "elbow", "kept", "no_structure", "degenerate"]

# A k is near the elbow when it lies at least 90% as far below the chord; yesterday's k may stay down to 80%.
NEAR_ELBOW, STILL_NEAR_ELBOW = 0.9, 0.8

# Differences below so many standard errors are noise.
CLEARLY = 2.0

# There are groups where the silhouette exceeds that of clouds by this factor, and by so many standard errors. A cloud
# cut to unit vectors is no Gaussian any more: in trials over 2 to 384 dimensions, its silhouette was 0.75 to 1.1 times
# that of its clouds, while the catalogues seen had 1.9 to 6 times theirs.
CLEARLY_MORE, CLOUD_ERRORS = 1.25, 3.0

N_RUNNERS_UP = 3


@dataclass(frozen=True)
class Limits:
    """What the shop can make use of.

    Attributes
    ----------
    k_min, k_max
        Range of k.
    n_products
        Products of the catalogue, of which shares are taken.
    min_cluster_size
        Products that the smallest cluster must have.
    max_cluster_share
        Share of the products that the largest may have.
    """

    k_min: int
    k_max: int
    n_products: float = math.inf
    min_cluster_size: int = 1
    max_cluster_share: float = 1.0

    def admit(self, score: KScore) -> bool:
        """Whether the sizes of a clustering are what the shop can use."""
        smallest = score.smallest_share * self.n_products
        return smallest >= self.min_cluster_size and score.largest_share <= self.max_cluster_share


@dataclass(frozen=True)
class KChoice:
    """The chosen k and why.

    Attributes
    ----------
    reason
        A few sentences for a person.
    candidates
        The k among which stability decided, ascending.
    runners_up
        The next best, in words.
    """

    k: int
    rule: Rule
    reason: str
    scores: tuple[KScore, ...]
    candidates: tuple[int, ...] = ()
    runners_up: tuple[str, ...] = ()

    @property
    def chosen(self) -> KScore:
        """The score of the chosen k."""
        return next(score for score in self.scores if score.k == self.k)

    def headline(self) -> str:
        """Return the choice in a few words, for a picture."""
        return {
            "given": f"k={self.k} was given",
            "degenerate": f"k={self.k}, nothing to choose from",
            "peak": f"silhouette peaks near k={self.k}",
            "elbow": f"k={self.k}, the most stable k near the elbow",
            "kept": f"k={self.k} stays as it was, no other is clearly better",
            "no_structure": f"one cloud without groups, cut into k={self.k}",
        }[self.rule]


def apply_rule(scores: Sequence[KScore], limits: Limits, *, yesterday: int | None = None) -> KChoice:
    """Apply steps 1 to 4 of the rule at the head of this module to a sweep.

    Parameters
    ----------
    scores
        At least one, ordered by k.
    limits
        The shop's limits; where no k keeps them, all count, and the reason says so.
    yesterday
        The k of the predecessor; it is one of `scores`.
    """
    scored = [score for score in scores if score.silhouette is not None]
    if len(scored) < 2:
        return KChoice(scores[0].k, "degenerate", only_one(scores[0]), tuple(scores))
    usable, unmet = _usable(scored, limits)
    peak = _peak(scored, usable)
    candidates = _within_one_error(usable, peak) if peak else _near_elbow(scored, usable, NEAR_ELBOW)
    chosen = _most_stable(candidates)
    lead = _peak_reason(chosen, peak, scored) if peak else _elbow_reason(chosen, candidates, scored)
    rule: Rule = "peak" if peak else "elbow"
    before = next((score for score in usable if score.k == yesterday), None)
    if before is not None and before is not chosen and _may_stay(before, chosen, peak, scored, usable):
        lead = _kept_reason(before, chosen)
        chosen, rule = before, "kept"
    others = [score for score in sorted(candidates, key=_stability, reverse=True) if score is not chosen]
    return KChoice(
        chosen.k,
        rule,
        f"{lead}{unmet}",
        tuple(scores),
        tuple(score.k for score in candidates),
        tuple(f"k={score.k}: {score.describe()}" for score in others[:N_RUNNERS_UP]),
    )


def _usable(scored: Sequence[KScore], limits: Limits) -> tuple[Sequence[KScore], str]:
    """Return the scores that the limits admit, or all where they admit none, with a remark."""
    admitted = [score for score in scored if limits.admit(score)]
    if admitted:
        return admitted, ""
    return scored, (
        f" No k keeps the limits (smallest cluster of {limits.min_cluster_size:,} products or more, largest of "
        f"{limits.max_cluster_share:.0%} or less), so they were left aside."
    )


def sweep_centre(scores: Sequence[KScore], limits: Limits) -> int:
    """Return the k around which a finer look is worth while."""
    scored = [score for score in scores if score.silhouette is not None]
    if len(scored) < 2:
        return scores[0].k
    usable, _ = _usable(scored, limits)
    peak = _peak(scored, usable)
    return peak.k if peak else max(usable, key=lambda score: (_gap(score, scored), -score.k)).k


def _peak(scored: Sequence[KScore], usable: Sequence[KScore]) -> KScore | None:
    """Return the usable score of the best silhouette if it stands out from the end of the range, else None."""
    best, last = max(usable, key=lambda score: (_silhouette(score), -score.k)), scored[-1]
    fall = _silhouette(best) - _silhouette(last)
    return best if best is not last and fall > CLEARLY * math.hypot(_error(best), _error(last)) else None


def _within_one_error(usable: Sequence[KScore], best: KScore) -> list[KScore]:
    return [score for score in usable if _silhouette(score) >= _silhouette(best) - _error(best)]


def _near_elbow(scored: Sequence[KScore], usable: Sequence[KScore], share: float) -> list[KScore]:
    """Return the usable scores nearly as far below the chord as the farthest of them; see `_gap`."""
    highest = max(_gap(score, scored) for score in usable)
    return [score for score in usable if _gap(score, scored) >= share * highest]


def _most_stable(candidates: Sequence[KScore]) -> KScore:
    best = max(candidates, key=lambda score: (_stability(score), -score.k))
    return next(score for score in candidates if _stability(score) >= _stability(best) - (best.stability_se or 0.0))


def _gap(score: KScore, scores: Sequence[KScore]) -> float:
    """Return how far a score lies below the chord between the ends, (k, inertia) with both axes scaled to [0, 1]."""
    first, last = scores[0], scores[-1]
    width = max(last.k - first.k, 1)
    height = max(first.inertia - last.inertia, 1e-12)
    return (first.inertia - score.inertia) / height - (score.k - first.k) / width


def _may_stay(
    before: KScore, chosen: KScore, peak: KScore | None, scored: Sequence[KScore], usable: Sequence[KScore]
) -> bool:
    """Whether yesterday's k isn't clearly worse, by what decided today."""
    if peak:
        return _silhouette(chosen) - _silhouette(before) <= CLEARLY * math.hypot(_error(chosen), _error(before))
    noise = CLEARLY * math.hypot(chosen.stability_se or 0.0, before.stability_se or 0.0)
    near = before in _near_elbow(scored, usable, STILL_NEAR_ELBOW)
    return near and _stability(chosen) - _stability(before) <= noise


def check_structure(choice: KChoice, of_clouds: float, limits: Limits, yesterday: int | None) -> KChoice:
    """Return the choice with what structureless clouds would have given, or step 5 of the rule.

    Parameters
    ----------
    of_clouds
        Their silhouette at the chosen k, see `structure.silhouette_of_clouds`.
    """
    value, error = _silhouette(choice.chosen), _error(choice.chosen)
    if value > max(CLEARLY_MORE * of_clouds, of_clouds + CLOUD_ERRORS * error):
        above = f"{value / of_clouds:.1f} times" if of_clouds > 0.005 else "far above"
        return replace(choice, reason=f"{choice.reason} The silhouette is {above} that of one cloud without groups.")
    smallest = min(score.k for score in choice.scores if score.k >= limits.k_min)
    k, whose = (yesterday, "that of the day before") if yesterday else (smallest, "the least")
    reason = (
        f"There are no groups to count: with k={choice.k} the silhouette is {value:.3f}, and one cloud of the same "
        f"shape without any groups gives {of_clouds:.3f}. k={k} is {whose}; read them as a division of a continuum."
    )
    return replace(choice, k=k, rule="no_structure", reason=reason, candidates=(), runners_up=())


def _silhouette(score: KScore) -> float:
    return -math.inf if score.silhouette is None else score.silhouette


def _error(score: KScore) -> float:
    return score.silhouette_se or 0.0


def _stability(score: KScore) -> float:
    return -math.inf if score.stability is None else score.stability


def _shown(score: KScore) -> str:
    return f"{_silhouette(score):.3f} ± {_error(score):.3f}"


def _shown_stability(score: KScore) -> str:
    return "unknown" if score.stability is None else f"{score.stability:.2f} ± {score.stability_se or 0:.2f}"


def _peak_reason(chosen: KScore, best: KScore, scored: Sequence[KScore]) -> str:
    last = scored[-1]
    if chosen is best:
        lead = f"k={chosen.k} has the best silhouette of the sweep, {_shown(chosen)}"
    else:
        lead = (
            f"k={chosen.k} has a silhouette of {_shown(chosen)}, within one standard error of the best, {_shown(best)} "
            f"at k={best.k}, and is the smallest of the most stable such k"
        )
    return f"{lead}; it falls to {_silhouette(last):.3f} at k={last.k}. Stability {_shown_stability(chosen)}."


def _elbow_reason(chosen: KScore, candidates: Sequence[KScore], scored: Sequence[KScore]) -> str:
    first, last = scored[0], scored[-1]
    among = f"k={candidates[0].k} to {candidates[-1].k}" if len(candidates) > 1 else f"k={chosen.k}"
    return (
        f"The silhouette has no peak between k={first.k} and k={last.k} ({_silhouette(first):.3f} to "
        f"{_silhouette(last):.3f}): finer clusters are always a little tighter. Near the elbow of inertia ({among}), "
        f"k={chosen.k} is the smallest of the most stable: clusterings of bootstrap samples agree by "
        f"{_shown_stability(chosen)} (1 the same, 0 chance)."
    )


def _kept_reason(before: KScore, chosen: KScore) -> str:
    return (
        f"k={before.k} of the day before stays: today's k={chosen.k} isn't clearly better (silhouette {_shown(chosen)} "
        f"against {_shown(before)}, stability {_shown_stability(chosen)} against {_shown_stability(before)})."
    )


def only_one(score: KScore) -> str:
    return f"k={score.k} is the only k that the limits and the data leave."
