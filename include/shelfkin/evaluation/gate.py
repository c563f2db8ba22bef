"""Whether lists are good enough to be published: no worse than a plain baseline, no sudden fall."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal

# Fewer users say too little: a paired difference of NDCG@10 over 200 has a standard error of about 0.01.
MIN_USERS = 200


@dataclass(frozen=True)
class Rival:
    """A baseline beside our lists: its mean, and the 95% interval of ours less its own."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Before:
    """The newest published run before this one."""

    as_of: date
    ndcg_at_10: float


@dataclass(frozen=True)
class Verdict:
    """``pass``, ``refuse``, or ``abstain`` where too little is known, with the reason in words."""

    word: Literal["pass", "refuse", "abstain"]
    reason: str


def judge(n_users: int, ours: float, rivals: Mapping[str, Rival], before: Before | None, max_fall: float) -> Verdict:
    """Judge the lists of one run by NDCG@10 of its task.

    Parameters
    ----------
    n_users
        Users who counted in the judged window.
    ours
        Mean NDCG@10 of our lists.
    rivals
        The baselines by name.
    before
        What was published last before this as_of, if anything was and if it was judged in the same task.
    max_fall
        Share of the earlier figure that may be lost, in [0, 1].
    """
    if n_users < MIN_USERS:
        return Verdict("abstain", f"only {n_users} users could be judged; below {MIN_USERS} the gate stays open")
    better = [name for name, rival in sorted(rivals.items()) if rival.high < 0]
    if better:
        worst = min(better, key=lambda name: rivals[name].high)
        rival = rivals[worst]
        return Verdict(
            "refuse",
            f"our lists lose to the baseline {worst} beyond noise: NDCG@10 {ours:.4f} against {rival.mean:.4f}, "
            f"difference in [{rival.low:+.4f}, {rival.high:+.4f}] with 95% confidence over {n_users:,} users",
        )
    if before is not None and ours < (1 - max_fall) * before.ndcg_at_10:
        return Verdict(
            "refuse",
            f"NDCG@10 fell to {ours:.4f} from {before.ndcg_at_10:.4f}, published as of {before.as_of}: more than the "
            f"{max_fall:.0%} that the profile's recommending.max_fall allows",
        )
    return Verdict("pass", f"no baseline is better beyond noise over {n_users:,} users")
