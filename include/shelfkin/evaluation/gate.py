"""Whether lists are good enough to be published: no worse than a plain baseline, no sudden fall.

How large a fall may be is the profile's `recommending.max_fall`, declared in `profile`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal, NamedTuple

from shelfkin.recommending.sampling import MIN_USERS


class BaselineComparison(NamedTuple):
    """A baseline beside our lists: its mean, and the 95% interval of ours less its own."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class LastPublished:
    """The newest published run before this one."""

    as_of: date
    ndcg_at_10: float


@dataclass(frozen=True)
class Verdict:
    """``pass``, ``refuse``, or ``abstain`` where too little is known, with the reason in words."""

    word: Literal["pass", "refuse", "abstain"]
    reason: str


def decide(
    n_users: int,
    ours: float,
    comparisons: Mapping[str, BaselineComparison],
    last_published: LastPublished | None,
    max_fall: float,
) -> Verdict:
    """Decide whether the lists of one run may be published, by NDCG@10 of its task.

    Parameters
    ----------
    n_users
        Users who counted in the judged window.
    ours
        Mean NDCG@10 of our lists.
    comparisons
        The baselines by name.
    last_published
        What was published last before this as_of, if anything was and if it was judged in the same task.
    max_fall
        Share of the earlier figure that may be lost, in [0, 1].
    """
    # However few they are: a list that was wrong for everybody is no list.
    if n_users and ours == 0:
        return Verdict(
            "refuse", f"no list holds what its customer bought next: NDCG@10 is 0 for each of {n_users:,} users"
        )
    if n_users < MIN_USERS:
        return Verdict("abstain", f"only {n_users} users could be judged; below {MIN_USERS} the gate stays open")
    better = [name for name, comparison in sorted(comparisons.items()) if comparison.high < 0]
    if better:
        worst = min(better, key=lambda name: comparisons[name].high)
        comparison = comparisons[worst]
        return Verdict(
            "refuse",
            f"our lists lose to the baseline {worst} beyond noise: NDCG@10 {ours:.4f} against {comparison.mean:.4f}, "
            f"difference in [{comparison.low:+.4f}, {comparison.high:+.4f}] with 95% confidence over {n_users:,} users",
        )
    if last_published is not None and ours < (1 - max_fall) * last_published.ndcg_at_10:
        return Verdict(
            "refuse",
            f"NDCG@10 fell to {ours:.4f} from {last_published.ndcg_at_10:.4f}, published as of {last_published.as_of}: "
            f"more than the {max_fall:.0%} that the profile's recommending.max_fall allows",
        )
    return Verdict("pass", f"no baseline is better beyond noise over {n_users:,} users")
