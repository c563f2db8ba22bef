"""Products without any history: whom they are shown to, by their text and cluster alone.

    make bench-cold                        Online Retail as of 2011-11-01
    make bench-cold STORE=complete_journey

A tenth of the products, drawn by a hash of their id, loses every event before the cut. Then only those are ranked, for
each user who bought one of them within the days after it. Peers: chance, and the popularity of the product's category,
or of its cluster where the store has no categories; equals in random order.
"""

from __future__ import annotations

import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

import bench_ablation
from bench_quality import CUTS, STAGES, Known, opened_shop, purchases_of, wanted_after

K = 50
N_TENTHS = 10


def is_cold(product_id: str) -> bool:
    """Return whether a product is of the tenth that is stripped of its history."""
    return zlib.crc32(f"cold {product_id}".encode()) % N_TENTHS == 0


def mean_recall(lists: pd.DataFrame, wanted: pd.DataFrame) -> float:
    """Return recall@50 over the users of `wanted`."""
    from shelfkin.evaluation import metrics
    from shelfkin.evaluation.backtest import hits_of

    hits, _, n_wanted = hits_of(lists, wanted, K, pd.Index(wanted["product_id"].unique()))
    return float(metrics.recall(hits, n_wanted, K).mean())


def category_popularity(known: Known, cold: np.ndarray, popularity: np.ndarray) -> np.ndarray:
    """Return the cold items by the popularity of their category, best first."""
    table = known.products.select("product_id", "category_path").toPandas().set_index("product_id")
    paths = table["category_path"].reindex(known.prepared.catalogue.product_ids).map(lambda path: "/".join(path or []))
    group = paths.where(paths != "", pd.Series(known.prepared.catalogue.clusters, index=paths.index).astype(str))
    total = pd.Series(popularity, index=paths.index).groupby(group.to_numpy()).sum()
    items = np.flatnonzero(cold)
    shuffled = np.random.default_rng(0).permutation(len(items))
    return items[np.lexsort((shuffled, -total.reindex(group.to_numpy()[items]).to_numpy()))]


def judge_cold(known: Known, cut: str, horizon_days: int, purchases: pd.DataFrame) -> dict[str, float]:
    """Return recall@50 by model."""
    from pyspark.sql import functions as F  # noqa: N812

    from shelfkin.evaluation.backtest_models import SignalModel, lists_of
    from shelfkin.recommending.fitting import CONTENT_NEIGHBOURS, fit_store
    from shelfkin.recommending.item_model import content_relations
    from shelfkin.recommending.ranker import FittedRanker
    from shelfkin.recommending.repurchase import RepurchasePolicy
    from shelfkin.recommending.timelines import timelines

    ids = known.prepared.catalogue.product_ids
    cold = np.array([is_cold(str(product_id)) for product_id in ids])
    stripped = known.session.createDataFrame([(str(product_id),) for product_id in ids[cold]], "product_id string")
    events = known.events.join(F.broadcast(stripped), "product_id", how="left_anti").persist()
    past = timelines(events, known.prepared.items, known.prepared.event_types).persist()
    known = replace(known, events=events, prepared=replace(known.prepared, timelines=past))
    warm = known.prepared.nearest(known.prepared.catalogue.on_sale & ~cold, CONTENT_NEIGHBOURS)
    training_set = bench_ablation.training_set_of(known, horizon_days, warm)
    near = known.prepared.nearest(cold, CONTENT_NEIGHBOURS)
    fitted = fit_store(known.prepared, near, known.as_of)
    # Relations of text lead to what may be shown; here that is the cold products only.
    content = content_relations(
        fitted.items.groups, cold, fitted.items.rank, near.neighbours, near.cosines, CONTENT_NEIGHBOURS
    )
    items = replace(fitted.items, allowed=cold, content=content)
    wanted = wanted_after(purchases, cut, horizon_days, "all")
    wanted = wanted[wanted["product_id"].isin(ids[cold]) & wanted["user_id"].isin(known_users(fitted))]
    users, policy = known.asking(sorted(wanted["user_id"].unique())), RepurchasePolicy(K, "allow")
    blend = known.profile.recommending.blend_for("exclude")
    found = {"chance": min(1.0, K / int(cold.sum()))}
    by_category = ids[category_popularity(known, cold, fitted.popularity["recent"].to_numpy())[:K]]
    everybody = pd.DataFrame({"user_id": np.repeat(wanted["user_id"].unique(), len(by_category))})
    everybody["product_id"] = np.tile(by_category, wanted["user_id"].nunique())
    everybody["rank"] = np.tile(np.arange(1, len(by_category) + 1), wanted["user_id"].nunique())
    found["category popularity"] = mean_recall(everybody, wanted)
    content_only = SignalModel.of_one_signal("content", items, fitted.histories, content=1.0)
    found["content only"] = mean_recall(lists_of({"it": (content_only, policy)}, users)["it"], wanted)
    with ThreadPoolExecutor(1) as pool:
        rankers = training_set.rankers(pool, [window for task, window in training_set.rows if task == "new"])
    ranker = rankers["new"].result()
    learned = FittedRanker(ranker, fitted.ranking_inputs) if ranker else None
    ours = SignalModel("shelfkin", items, fitted.histories, blend, learned)
    found["shelfkin"] = mean_recall(lists_of({"it": (ours, policy)}, users)["it"], wanted)
    print(f"{int(cold.sum()):,} cold products, {wanted['user_id'].nunique():,} users, {len(wanted):,} purchases")
    return found


def known_users(fitted: Any) -> set[str]:
    """Return the users with a history."""
    return set(fitted.histories.select("user_id").toPandas()["user_id"])


def main() -> None:
    with opened_shop(__doc__) as shop:
        _, cuts, horizon_days = CUTS[shop.store]
        cut = cuts[-1]
        for stage in STAGES[:-1]:
            shop.run_stage(cut, stage)
        found = judge_cold(Known.of(shop, cut), cut, horizon_days, purchases_of(shop.store))
    print(f"\n{'':22}{'recall@50':>10}{'of chance':>11}{'of category':>13}")
    for name, value in found.items():
        print(f"{name:22}{value:>10.4f}{value / found['chance']:>11.2f}{value / found['category popularity']:>13.2f}")


if __name__ == "__main__":
    main()
