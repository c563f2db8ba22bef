"""What text, factors, clusters, categories, sequence and season add to the lists: a ranker without each is judged.

    make bench-ablation                        the stores, cuts and windows of bench-quality
    make bench-ablation STORE=complete_journey

Rankers learn from the windows before each cut, as a nightly run would. A group's features are constant for the ranker
that does without it; candidates are the same for all, so this is what the group adds to their order.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from bench_quality import (
    CUTS,
    LIST_LENGTH,
    STAGES,
    TASKS,
    Known,
    Score,
    Shop,
    opened_shop,
    purchases_of,
    score,
    wanted_after,
)

_RELATED_IN_ORDER = ("same_order_last", "next_order_last", "next_order_recent")
GROUPS: dict[str, tuple[str, ...]] = {
    "text": ("content", "content_of_best", "content_nearest", "content_nearest_last"),
    "factors": ("als", "als_recent", "als_of_best", "als_recent_of_best"),
    "clusters": ("cluster_trend", "cluster_share"),
    "categories": (
        "department_share",
        "category_share",
        "category_share_recent",
        "category_brand_share",
        "category_products",
    ),
    "sequence": ("own_in_last_order", *_RELATED_IN_ORDER, *(f"{name}_of_best" for name in _RELATED_IN_ORDER)),
    "season": (
        "item_trend_orders",
        "item_month_orders",
        "item_trend",
        "item_month_trend",
        "item_new_buyers_week",
        "item_new_buyers_month",
        "item_new_buyer_share",
    ),
}
WHOLE = "all features"


def without(rows: Any, names: tuple[str, ...]) -> Any:
    """Return training rows in which some features say nothing."""
    from shelfkin.recommending.features import FEATURES

    features = rows.features.copy()
    features[:, [FEATURES.index(name) for name in names]] = 0.0
    return replace(rows, features=features)


def training_set_of(known: Known, horizon_days: int, near: Any) -> Any:
    """Return the training rows of the windows before the cut, as `evaluation.learning.TrainingSet`."""
    from shelfkin.evaluation.learning import TrainingSet
    from shelfkin.evaluation.windows import Window, dated_purchases
    from shelfkin.recommending.fitting import fit_store
    from shelfkin.recommending.timelines import purchase_type

    prepared = known.prepared
    windows = Window(known.as_of, horizon_days).windows_before(prepared.settings.ranker_windows)
    bought = known.events.filter(known.events["event_type"] == purchase_type(prepared.event_types))
    dated = dated_purchases(bought, windows[-1].cut).persist()
    n_cores = known.session.sparkContext.defaultParallelism
    training_set = TrainingSet(dated, prepared.items, prepared.settings.ranker_seed, n_cores)
    for window in windows:
        past = fit_store(prepared, near, window.cut, backtest=True)
        training_set.add(window, past)
        past.histories.unpersist()
    dated.unpersist()
    return training_set


def judge_cut(shop: Shop, cut: str, horizon_days: int, purchases: Any) -> dict[tuple[str, str], Score]:
    """Return the scores of every variant at one cut, by task and variant."""
    from shelfkin.evaluation.backtest_models import SignalModel, lists_of
    from shelfkin.recommending.fitting import CONTENT_NEIGHBOURS
    from shelfkin.recommending.ranker import FittedRanker, TrainingRows, train
    from shelfkin.recommending.repurchase import RepurchasePolicy

    known = Known.of(shop, cut)
    near = known.prepared.nearest(known.prepared.catalogue.on_sale, CONTENT_NEIGHBOURS)
    training_set = training_set_of(known, horizon_days, near)
    fitted = known.fitted
    found = {}
    for task, repurchase in TASKS.items():
        rows = TrainingRows.together([rows for (of_task, _), rows in training_set.rows.items() if of_task == task])
        wanted = wanted_after(purchases, cut, horizon_days, task)
        users = sorted(wanted["user_id"].unique())
        for variant, names in {WHOLE: (), **GROUPS}.items():
            ranker = train(without(rows, names), seed=training_set.seed, n_threads=training_set.n_threads)
            blend = known.profile.recommending.blend_for(repurchase)
            learned = FittedRanker(ranker, fitted.ranking_inputs) if ranker else None
            model = SignalModel(variant, fitted.items, fitted.histories, blend, learned)
            asked = {variant: (model, RepurchasePolicy(LIST_LENGTH, repurchase))}
            lists = lists_of(asked, known.asking(users))[variant]
            found[task, variant] = score(lists, wanted)
            print(f"  {cut} {task:4} {variant:14} {found[task, variant].ndcg.mean():.4f}", flush=True)
    return found


def main() -> None:
    with opened_shop(__doc__) as shop:
        _, cuts, horizon_days = CUTS[shop.store]
        purchases = purchases_of(shop.store)
        scores = {}
        for cut in cuts:
            for stage in STAGES[:-1]:
                shop.run_stage(cut, stage)
            scores[cut] = judge_cut(shop, cut, horizon_days, purchases)
        report(scores, cuts)


def report(scores: dict[str, dict[tuple[str, str], Score]], cuts: tuple[str, ...]) -> None:
    """Print the means over the cuts, and what is lost without each group."""
    from shelfkin.evaluation.bootstrap import paired_interval

    print(f"\nmeans over {', '.join(cuts)}; what is lost without a group, with its 95% interval")
    for task in TASKS:
        whole = [scores[cut][task, WHOLE] for cut in cuts]
        print(f"\n{'task ' + task:18}{'recall@10':>10}{'NDCG@10':>10}")
        for variant in (WHOLE, *GROUPS):
            own = [scores[cut][task, variant] for cut in cuts]
            lost = ""
            if variant != WHOLE:
                pairs = [ours.ndcg - other.ndcg for ours, other in zip(whole, own, strict=True)]
                low, high = paired_interval(pairs)
                lost = f"{np.mean([pair.mean() for pair in pairs]):+.4f} [{low:+.4f}, {high:+.4f}]"
            recall, ndcg = (np.mean([getattr(one, name).mean() for one in own]) for name in ("recall", "ndcg"))
            name = variant if variant == WHOLE else f"without {variant}"
            print(f"{name:18}{recall:>10.4f}{ndcg:>10.4f}   {lost}", flush=True)


if __name__ == "__main__":
    main()
