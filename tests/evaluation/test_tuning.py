"""Which parameters the baselines are judged with, on stores whose answer is known by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from shelfkin.evaluation import backtest_models, tuning
from shelfkin.evaluation import baselines as peers
from shelfkin.evaluation.backtest import HEADLINE_K
from shelfkin.evaluation.baselines import Baselines, choices
from shelfkin.evaluation.tuning import Tried, Tuned, tune
from shelfkin.evaluation.windows import Window, dated_purchases, truth
from shelfkin.profile import EventType, Recommending
from shelfkin.recommending.fitting import fit_store
from shelfkin.recommending.preparation import prepare
from shelfkin.spark import contract_columns

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)
WINDOW = Window.before(AS_OF, 14)
N_USERS = 12
# In lists of both, the second place is worth this.
SECOND = 1 / np.log2(3)


def tuned_by(spark: SparkSession, bought_next: str) -> Tuned:
    """Everybody bought `often` thrice long ago, `lately` once two days before the cut, and one of them after it."""
    rows: list[Any] = []
    for n in range(N_USERS):
        past = [("often", 50.0), ("often", 45.0), ("often", 40.0), ("lately", 16.0), (bought_next, 5.0)]
        for product, days in past:
            at = AS_OF - timedelta(days=days)
            rows.append((f"u{n:02d}", product, "purchase", at, 1.0, f"o{n}-{days:.0f}"))
    events = spark.createDataFrame(rows, contract_columns("events"))
    products = spark.createDataFrame(
        [(p, p, None, None, None, None, None, None, p, p, None) for p in ("often", "lately")],
        contract_columns("products"),
    )
    types = {"purchase": EventType(weight=1.0, half_life_days=10)}
    prepared = prepare(products, None, None, events, types, Recommending())
    fitted = fit_store(prepared, prepared.nearest(prepared.catalogue.on_sale, 10), WINDOW.cut, backtest=True)
    return tune(Baselines(fitted), truth(dated_purchases(events, WINDOW.cut), WINDOW))


@pytest.fixture(autouse=True)
def _two_baselines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "GRIDS", {name: peers.GRIDS[name] for name in ("popularity", "own_purchases")})
    monkeypatch.setattr(tuning, "MIN_USERS", N_USERS)


@pytest.mark.parametrize(
    ("bought_next", "faded", "popularity"),
    [
        # A half-life of 4 days puts the newer one first, those of 30 and 120 days the one that sold thrice.
        ("lately", True, {"recent": 1, "month": SECOND, "usual": SECOND}),
        ("often", False, {"recent": SECOND, "month": 1, "usual": 1}),
    ],
)
def test_the_best_on_the_window_is_chosen_and_of_equal_ones_the_first(
    spark: SparkSession, bought_next: str, faded: bool, popularity: dict[str, float]
) -> None:
    tuned = tuned_by(spark, bought_next)
    assert {one.task for one in tuned.tried} == {"all"}  # nobody bought anything new
    assert tuned.parameters("all", "own_purchases") == {"faded": faded}
    best = next(name for name, value in popularity.items() if value == 1)
    assert tuned.parameters("all", "popularity") == {"counted": best}
    found = {one.parameters: one.ndcg for one in tuned.tried if one.model == "popularity"}
    assert found == {f'{{"counted": "{name}"}}': pytest.approx(value) for name, value in popularity.items()}
    assert sum(one.chosen for one in tuned.tried) == 2
    # A task in which nothing was chosen is judged with the defaults.
    assert tuned.parameters("new", "popularity") == next(choices(peers.GRIDS["popularity"]))


def test_lists_of_several_jobs_are_those_of_one(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[int] = []
    ask = backtest_models._by_one_job

    def counted(asked: Any, users: Any) -> Any:
        jobs.append(len(asked))
        return ask(asked, users)

    monkeypatch.setattr(backtest_models, "_by_one_job", counted)
    together = tuned_by(spark, "lately")
    monkeypatch.setattr(backtest_models, "MAX_ROWS", 2 * N_USERS * HEADLINE_K)
    assert tuned_by(spark, "lately") == together
    # Three columns of popularity, two ways of counting own purchases: all at once, then two at a time.
    assert jobs == [5, 2, 2, 1]


def test_too_few_users_choose_nothing(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "MIN_USERS", N_USERS + 1)
    monkeypatch.setattr(Baselines, "model", None)  # and nothing is fitted for them
    tuned = tuned_by(spark, "lately")
    assert tuned == Tuned()
    assert tuned.parameters("all", "own_purchases") == {"faded": False}


def test_rows_come_back_as_they_were_written() -> None:
    tried = (
        Tried("all", "als", '{"alpha": 1.0}', 0.25, True),
        Tried("all", "item_knn", '{"shrinkage": 0.0}', 0.5, False),
        Tried("new", "als", '{"alpha": 1.0}', 0.125, True),
    )
    rows = [(one.task, one.model, one.parameters, one.ndcg, one.chosen) for one in tried]
    assert Tuned.from_rows(rows[::-1]) == Tuned(tried)
