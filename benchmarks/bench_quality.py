"""Recommendations against every strong baseline, on what customers bought next.

    make bench-quality                        Online Retail, cuts 2011-09-01, -10-01, -11-01, 30 days
    make bench-quality STORE=complete_journey Complete Journey, cuts 2017-09-01 and 2017-11-01, 14 days

Runs the real stages as of each cut (nothing later is read), takes the tables that they would publish, and scores them
against the purchases of the days after the cut. Baselines see the same cleaned events; their parameters were chosen on
a window that ends before the first cut. Users count who bought before the cut, products that were sold before it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
K = 10
LIST_LENGTH = 20
TASKS = {"all": "allow", "new": "exclude"}
CUTS = {
    "online_retail": ("2011-08-01", ("2011-09-01", "2011-10-01", "2011-11-01"), 30),
    "complete_journey": ("2017-08-01", ("2017-09-01", "2017-11-01"), 14),
}
STAGES = ("clean_catalog", "clean_events", "embed_products", "select_k", "cluster_products", "evaluate_recommenders")


@dataclass
class Shop:
    """One store and where its runs leave their tables."""

    store: str
    artifacts: Path

    def run_stage(self, as_of: str, name: str, *flags: str) -> Any:
        """Run a Spark app in this process as of a date; return its manifest."""
        from shelfkin.app import app_of
        from shelfkin.artifacts import Manifest, Root, RunPaths

        paths = RunPaths(Root.at(str(self.artifacts)), self.store, date.fromisoformat(as_of), f"bench{''.join(flags)}")
        uri = paths.manifest_uri(name)
        if not Path(uri).exists():
            base = RunPaths(paths.root, self.store, paths.as_of, "bench")
            upstream = [base.manifest_uri(stage) for stage in STAGES if Path(base.manifest_uri(stage)).exists()]
            given = [word for manifest in upstream for word in ("--input", manifest)]
            arguments = ["--store", self.store, "--as-of", as_of, "--run-id", paths.run_id]
            arguments += ["--artifact-root", str(self.artifacts), "--stores-dir", str(ROOT / "include" / "stores")]
            app_of(name).main([*arguments, *given, *flags])
        return Manifest.read(paths.root, uri)


@contextmanager
def opened_shop(description: str | None) -> Iterator[Shop]:
    """Read the command's store and folder, start Spark, and clean up at the end."""
    from shelfkin.settings import Settings
    from shelfkin.spark import build_session

    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", nargs="?", default="online_retail", choices=sorted(CUTS))
    parser.add_argument("--keep", type=Path, help="folder for the runs' tables, to go on from")
    flags = parser.parse_args()
    folder = flags.keep or Path(tempfile.mkdtemp(prefix="bench-shop-"))
    began = time.monotonic()
    try:
        # LastPublished the first stage, whose session it will be, with the memory that the DAG gives to every stage.
        memory = Settings.from_env({**os.environ}).driver_memory
        build_session("bench", {"spark.ui.showConsoleProgress": "false", "spark.driver.memory": memory})
        yield Shop(flags.store, folder)
    finally:
        if flags.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{time.monotonic() - began:,.0f} s in all")


# ---- truth ----------------------------------------------------------------------------------------------------------


def purchases_of(store: str) -> pd.DataFrame:
    """Return every purchase of the raw data, by the protocol of the published reference figures."""
    if store == "complete_journey":
        path = Path(os.environ.get("SHELFKIN_DATA", ROOT / "data")) / store / "transactions.parquet"
        raw = pd.read_parquet(path, columns=["household_id", "product_id", "transaction_timestamp"])
        return pd.DataFrame(
            {
                "user_id": raw["household_id"].astype(str),
                "product_id": raw["product_id"].astype(str),
                "occurred_at": pd.to_datetime(raw["transaction_timestamp"]).dt.tz_localize(None),
            }
        )
    reference = os.environ.get("SHELFKIN_REFERENCE_DATA")
    if not reference:
        raise SystemExit(
            "Set SHELFKIN_REFERENCE_DATA to the folder of the reference data; README says where to get it."
        )
    path = Path(reference) / "online-retail" / "online_retail.csv.gz"
    raw = pd.read_csv(path, dtype={"CustomerID": str, "InvoiceNo": str, "StockCode": str}, encoding="latin-1")
    product = raw["StockCode"].str.upper()
    kept = (
        ~raw["InvoiceNo"].str.startswith("C")
        & raw["CustomerID"].notna()
        & (raw["Quantity"] > 0)
        & (raw["UnitPrice"] > 0)
        & product.str.match(r"\d{5}", na=False)
    )
    return pd.DataFrame(
        {
            "user_id": raw["CustomerID"][kept].str.removesuffix(".0"),
            "product_id": product[kept],
            "occurred_at": pd.to_datetime(raw["InvoiceDate"][kept], format="mixed"),
        }
    )


def wanted_after(purchases: pd.DataFrame, cut: str, horizon_days: int, task: str) -> pd.DataFrame:
    """Return distinct ``user_id``, ``product_id`` that count as bought next."""
    at = purchases["occurred_at"]
    past = purchases[at < pd.Timestamp(cut)]
    future = purchases[(at >= pd.Timestamp(cut)) & (at < pd.Timestamp(cut) + timedelta(days=horizon_days))]
    known = future["product_id"].isin(past["product_id"].unique()) & future["user_id"].isin(past["user_id"].unique())
    wanted = future.loc[known, ["user_id", "product_id"]].drop_duplicates()
    if task == "new":
        owned = past[["user_id", "product_id"]].drop_duplicates().assign(owned=True)
        joined = wanted.merge(owned, on=["user_id", "product_id"], how="left")
        wanted = joined.loc[joined["owned"].isna(), ["user_id", "product_id"]]
    return wanted


@dataclass(frozen=True)
class Score:
    """Per-user figures of one model in one task and window, users by rising id."""

    recall: np.ndarray
    ndcg: np.ndarray
    hit: np.ndarray
    coverage: int


def score(lists: pd.DataFrame, wanted: pd.DataFrame) -> Score:
    """Score lists (``user_id``, ``rank``, ``product_id``) at `K`; a user without a list scores zero."""
    from shelfkin.evaluation import metrics
    from shelfkin.evaluation.backtest import hits_of

    hits, items, n_wanted = hits_of(lists, wanted, K, pd.Index(lists["product_id"].unique()))
    return Score(
        metrics.recall(hits, n_wanted, K),
        metrics.ndcg(hits, n_wanted, K),
        metrics.hit(hits, n_wanted, K),
        len(np.unique(items[items >= 0])),
    )


# ---- models ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Known:
    """What the stages of one run know before the cut: what they prepare, the products, the events, the profile."""

    session: Any
    profile: Any
    products: Any
    events: Any
    prepared: Any
    as_of: datetime

    @classmethod
    def of(cls, shop: Shop, cut: str) -> Known:
        """Read the tables of the run as of a cut, and prepare them as evaluate_recommenders does."""
        from shelfkin.recommending.preparation import prepare
        from shelfkin.settings import Settings
        from shelfkin.spark import build_session

        session = build_session("bench-quality")
        vectors = shop.run_stage(cut, "embed_products").dataset("product_vectors")
        products, clusters, events = (
            session.read.parquet(shop.run_stage(cut, stage).table_uri(table))
            for stage, table in (
                ("clean_catalog", "products"),
                ("cluster_products", "product_clusters"),
                ("clean_events", "events"),
            )
        )
        profile = Settings.from_env({**os.environ}).profile(shop.store)
        event_types = profile.events.event_types
        prepared = prepare(products, vectors, clusters, events, event_types, profile.recommending)
        prepared = replace(prepared, timelines=prepared.timelines.persist())
        return cls(session, profile, products, events, prepared, datetime.fromisoformat(cut).replace(tzinfo=UTC))

    @cached_property
    def fitted(self) -> Any:
        """The store as of the cut."""
        from shelfkin.recommending.fitting import CONTENT_NEIGHBOURS, fit_store

        near = self.prepared.nearest(self.prepared.catalogue.on_sale, CONTENT_NEIGHBOURS)
        return fit_store(self.prepared, near, self.as_of)

    def asking(self, users: list[str]) -> Any:
        """Return users as a table."""
        return self.session.createDataFrame([(user,) for user in users], "user_id string")


# Wider than what a run tries (`evaluation.baselines.GRIDS`); item-kNN with more neighbours.
WIDER_GRIDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "popularity": {"counted": ("recent", "trend", "month", "usual", "total")},
    "item_knn": {"shrinkage": (5.0, 0.0, 20.0), "n_neighbours": (500,)},
    "als": {"regularisation": (1.0, 0.3, 0.03, 3.0), "alpha": (1.0, 10.0, 40.0)},
}


def tuned_on(known: Known, cut: str, horizon_days: int, wanted: dict[str, pd.DataFrame]) -> Any:
    """Choose every baseline's parameters by what was bought after a cut, and print them."""
    from shelfkin.evaluation.baselines import GRIDS, Baselines
    from shelfkin.evaluation.tuning import tune

    marked = wanted["all"].merge(wanted["new"], on=["user_id", "product_id"], how="left", indicator="is_new")
    marked["is_new"] = marked["is_new"] == "both"
    truth = known.session.createDataFrame(marked, "user_id string, product_id string, is_new boolean")
    tuned = tune(Baselines(known.fitted), truth, grids={**GRIDS, **WIDER_GRIDS}, max_users=len(wanted["all"]))
    print(f"\nparameters chosen on the {horizon_days} days from {cut}")
    for one in tuned.tried:
        print(f"  {one.model:14} {one.task:4} {one.ndcg:.4f} {'*' if one.chosen else ' '} {one.parameters}", flush=True)
    return tuned


def baselines_of(known: Known, tuned: Any, wanted: dict[str, pd.DataFrame]) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield every baseline's lists by task, with the parameters that were chosen."""
    from shelfkin.evaluation.backtest_models import lists_of
    from shelfkin.evaluation.baselines import Baselines, ours
    from shelfkin.recommending.repurchase import RepurchasePolicy

    baselines = Baselines(known.fitted)
    for task, repurchase in TASKS.items():
        users = known.asking(sorted(wanted[task]["user_id"].unique()))
        (blend,) = ours(known.fitted, known.profile.recommending.blend_for(repurchase), None)
        models = {name: baselines.model(name, tuned.parameters(task, name)) for name in baselines.names}
        policy = RepurchasePolicy(LIST_LENGTH, repurchase)
        asked = {name: (model, policy) for name, model in {"blend": blend, **models}.items()}
        lists = lists_of(asked, users)
        yield from ((name, task, lists[name]) for name in asked)


def main() -> None:
    from pyspark.sql import SparkSession

    from shelfkin.evaluation.bootstrap import paired_interval

    with opened_shop(__doc__) as shop:
        tuning_cut, cuts, horizon = CUTS[shop.store]
        purchases = purchases_of(shop.store)
        scores: dict[tuple[str, str, str], Score] = {}
        for cut in (tuning_cut, *cuts):
            # One session makes all the runs, where each stage has its own otherwise: what the last cut kept in memory
            # must not fill it.
            SparkSession.active().catalog.clearCache()
            wanted = {task: wanted_after(purchases, cut, horizon, task) for task in TASKS}
            for stage in STAGES[:-1]:
                shop.run_stage(cut, stage)
            known = Known.of(shop, cut)
            if cut == tuning_cut:
                tuned = tuned_on(known, cut, horizon, wanted)
                continue
            shop.run_stage(cut, "evaluate_recommenders")
            for task, repurchase in TASKS.items():
                built = shop.run_stage(
                    cut, "build_recommendations", "--repurchase", repurchase, "--list-length", str(LIST_LENGTH)
                )
                lists = pd.read_parquet(built.table_uri("user_recommendations").removeprefix("file://"))
                scores["shelfkin", task, cut] = score(lists, wanted[task])
            for name, task, lists in baselines_of(known, tuned, wanted):
                scores[name, task, cut] = score(lists, wanted[task])
        names = dict.fromkeys(name for name, _, _ in scores)
        report(scores, list(names), cuts, paired_interval)


def report(scores: dict, names: list[str], cuts: tuple[str, ...], paired_interval: Callable) -> None:
    """Print the means over the cuts, each cut, and the paired intervals."""
    for task in TASKS:
        users = [len(scores["shelfkin", task, cut].ndcg) for cut in cuts]
        print(f"\ntask {task}: means over {', '.join(cuts)} ({', '.join(f'{n:,}' for n in users)} users), k={K}\n")
        print(f"{'':16}{'recall':>8}{'ndcg':>8}{'hit':>7}{'coverage':>10}   ours less this, NDCG, 95%   NDCG by cut")
        for name in names:
            found = [scores[name, task, cut] for cut in cuts]
            recall, ndcg, hit = (
                np.mean([getattr(one, metric).mean() for one in found]) for metric in ("recall", "ndcg", "hit")
            )
            interval = ""
            if name != "shelfkin":
                low, high = paired_interval(
                    [scores["shelfkin", task, cut].ndcg - scores[name, task, cut].ndcg for cut in cuts]
                )
                interval = f"[{low:+.4f}, {high:+.4f}]"
            coverage = np.mean([one.coverage for one in found])
            by_cut = " ".join(f"{one.ndcg.mean():.4f}" for one in found)
            print(f"{name:16}{recall:>8.4f}{ndcg:>8.4f}{hit:>7.3f}{coverage:>10,.0f}   {interval:25}   {by_cut}")


if __name__ == "__main__":
    main()
