"""When lists may be published."""

from __future__ import annotations

from datetime import date

import pytest

from shelfkin.evaluation.gate import BaselineComparison, LastPublished, decide
from shelfkin.recommending.sampling import MIN_USERS

BETTER = {"popularity": BaselineComparison(0.1, 0.05, 0.15), "own_purchases": BaselineComparison(0.32, -0.05, -0.01)}
LEVEL = {"popularity": BaselineComparison(0.29, -0.005, 0.02)}


@pytest.mark.parametrize(
    ("n_users", "comparisons", "last", "word", "reason"),
    [
        (500, LEVEL, None, "pass", "no baseline is better"),
        (500, BETTER, None, "refuse", "own_purchases beyond noise: NDCG@10 0.3000 against 0.3200"),
        (MIN_USERS - 1, BETTER, None, "abstain", "only 199 users"),
        (
            500,
            LEVEL,
            LastPublished(date(2026, 1, 1), 0.41),
            "refuse",
            "fell to 0.3000 from 0.4100, published as of 2026-01-01",
        ),
        (500, LEVEL, LastPublished(date(2026, 1, 1), 0.39), "pass", "no baseline"),
        (MIN_USERS, {}, None, "pass", "200 users"),
    ],
)
def test_the_gate(
    n_users: int, comparisons: dict[str, BaselineComparison], last: LastPublished | None, word: str, reason: str
) -> None:
    verdict = decide(n_users, 0.3, comparisons, last, max_fall=0.25)
    assert verdict.word == word
    assert reason in verdict.reason


@pytest.mark.parametrize("n_users", [1, MIN_USERS - 1, 500])
def test_lists_that_are_wrong_for_everybody_are_refused_however_few_could_be_judged(n_users: int) -> None:
    verdict = decide(n_users, 0.0, LEVEL, None, max_fall=0.25)
    assert (verdict.word, "NDCG@10 is 0" in verdict.reason) == ("refuse", True)
    assert decide(0, 0.0, {}, None, max_fall=0.25).word == "abstain"
