"""What a list must beat: plain recommenders, judged beside ours."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import scipy.sparse as sp

from shelfkin.evaluation.als_model import AlsModel
from shelfkin.evaluation.backtest_models import BacktestModel, SignalModel
from shelfkin.profile import BlendWeights
from shelfkin.recommending import co_purchase
from shelfkin.recommending.als import ALPHA, REGULARISATION, Als
from shelfkin.recommending.fitting import Fitted
from shelfkin.recommending.popularity import popular_scores
from shelfkin.recommending.ranker import FittedRanker, Ranker
from shelfkin.recommending.relations import EASE_NEIGHBOURS, KNN_NEIGHBOURS, KNN_SHRINKAGE

OURS = "shelfkin"

Parameters = Mapping[str, Any]
Grid = Mapping[str, tuple[Any, ...]]
# What tuning tries of each baseline. The first of each stands where nothing was tuned. ALS with larger alphas is worse
# on the tuning windows of both shipped stores, in both tasks (decision 0026).
GRIDS: dict[str, Grid] = {
    "popularity": {"counted": ("recent", "month", "usual")},
    "own_purchases": {"faded": (False, True)},
    "item_knn": {"shrinkage": (KNN_SHRINKAGE, 0.0, 20.0)},
    "ease": {"l2": (300.0, 100.0, 1000.0)},
    "als": {"regularisation": (REGULARISATION, 0.3), "alpha": (ALPHA,)},
    "content": {},
}


def choices(grid: Grid) -> Iterator[dict[str, Any]]:
    """Yield the parameters that a grid holds; the first are the defaults."""
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


class Baselines:
    """The plain recommenders as of one moment. All but ALS fill their lists with popular products.

    - ``popularity``: the faded number of orders; ``counted`` names the column of `popularity.item_popularity`.
    - ``own_purchases``: the user's own products by number of orders, ``faded`` by age or not; ties by popularity.
    - ``item_knn``: cosine of shared customers with ``shrinkage``, recent orders weigh more (`co_purchase.item_knn`).
    - ``ease``: EASE^R of the same strengths with penalty ``l2``, where the store is small enough for it.
    - ``als``: implicit ALS of 64 factors of the same strengths with ``regularisation`` and ``alpha``.
    - ``content``: nearest texts of past products, where there are vectors.

    Parameters
    ----------
    fitted
        The store as of the moment; its histories stay persisted while lists are asked for.
    """

    def __init__(self, fitted: Fitted) -> None:
        self._fitted = fitted
        nothing = sp.csr_array(2 * (fitted.items.n_items,), dtype=fitted.items.co_purchase.dtype)
        self._plain = replace(fitted.items, co_purchase=nothing, content=nothing)
        self._made: dict[tuple[str, tuple[tuple[str, Any], ...]], BacktestModel] = {}

    @property
    def names(self) -> list[str]:
        """The baselines that the store is fit for."""
        unfit = {"ease": self._fitted.method != "ease", "content": not self._fitted.items.content.nnz}
        return [name for name in GRIDS if not unfit.get(name)]

    def model(self, name: str, parameters: Parameters) -> BacktestModel:
        """Return a baseline with given parameters, made once."""
        key = name, tuple(sorted(parameters.items()))
        if key not in self._made:
            self._made[key] = getattr(self, f"_{name}")(**parameters)
        return self._made[key]

    def models(self, wanted: Iterable[tuple[str, Parameters]]) -> list[BacktestModel]:
        """Return several baselines; those that need a fit are fitted side by side."""
        asked = list(wanted)
        distinct = {(name, tuple(sorted(parameters.items()))): (name, parameters) for name, parameters in asked}
        # EASE^R keeps all cores busy by itself, and two inverses at once would take twice the memory.
        with ThreadPoolExecutor(max_workers=1 if "ease" in self.names else 2) as pool:
            list(pool.map(lambda one: self.model(*one), distinct.values()))
        return [self.model(*one) for one in asked]

    def _one_signal(self, name: str, signal: str, values: Any = None, *, faded: bool = True) -> BacktestModel:
        """Return a model that goes by one signal of the blend, with values of its own if there are any."""
        items = self._plain if values is None else replace(self._plain, **{signal: values})
        return SignalModel.of_one_signal(name, items, self._fitted.histories, faded=faded, **{signal: 1.0})

    def _popularity(self, counted: str) -> BacktestModel:
        return self._one_signal("popularity", "popular", popular_scores(self._fitted.popularity[counted].to_numpy()))

    def _own_purchases(self, faded: bool) -> BacktestModel:
        return self._one_signal("own_purchases", "own", faded=faded)

    def _item_knn(self, shrinkage: float, n_neighbours: int = KNN_NEIGHBOURS) -> BacktestModel:
        if (shrinkage, n_neighbours) == (KNN_SHRINKAGE, KNN_NEIGHBOURS):
            knn = self._fitted.ranking_inputs.relations.item_knn  # the model has it already
        else:
            knn = co_purchase.fit_knn(self._fitted.strengths, shrinkage=shrinkage, n_neighbours=n_neighbours)
        return self._one_signal("item_knn", "co_purchase", knn)

    def _ease(self, l2: float) -> BacktestModel:
        ease = co_purchase.fit_ease(self._fitted.strengths, l2=l2, n_neighbours=EASE_NEIGHBOURS)
        return self._one_signal("ease", "co_purchase", ease)

    def _content(self) -> BacktestModel:
        return self._one_signal("content", "content", self._fitted.items.content)

    def _als(self, regularisation: float, alpha: float) -> BacktestModel:
        fitted = self._fitted
        if (regularisation, alpha) == (REGULARISATION, ALPHA):  # the ranker has it already
            als = fitted.ranking_inputs.relations.als
        else:
            als = Als.fit(fitted.strengths, regularisation=regularisation, alpha=alpha)
        return AlsModel("als", fitted.items, fitted.histories, als)


def ours(fitted: Fitted, blend: BlendWeights, ranker: Ranker | None) -> list[BacktestModel]:
    """Return our lists, and the blend as one more baseline where a ranker makes ours."""
    by_blend = SignalModel(OURS, fitted.items, fitted.histories, blend)
    if ranker is None:
        return [by_blend]
    return [replace(by_blend, learned=FittedRanker(ranker, fitted.ranking_inputs)), replace(by_blend, name="blend")]
