"""All stages of a small shop, one after the other, and what they promise together."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from rehearsal.server import Settings, running_rehearsal_server
from shelfkin.artifacts import Manifest, RunPaths
from shelfkin.erased_users import ErasedUsers, record_erased
from shelfkin.evaluation.baselines import OURS
from shelfkin.profile import IdRule
from shelfkin.recommending import ranker
from shelfkin.serving.index import ServingIndex, open_index
from shelfkin.serving.publish import PublishResult, publish_run
from shelfkin.serving.session import recommend_for_session
from shelfkin.serving.show import show_run
from small_shop import LAST_DAY, STORE, events, products, write_csv, write_shop
from stage_runs import Run

pytestmark = pytest.mark.spark

AS_OF = "2024-06-01"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def finished(spark: SparkSession, shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(shop, tmp_path_factory.mktemp("artifacts"), STORE, AS_OF).all_stages()


def test_every_row_is_accounted_for(finished: Run) -> None:
    counts = finished.manifests["clean_events"].content["counts"]
    later = sum(row["at"] >= AS_OF for row in events())
    assert counts["rows_in"] == len(events())
    assert counts["after_as_of"] == later
    assert counts["kept"] == len(events()) - later
    assert finished.manifests["clean_catalog"].content["counts"]["kept"] == 144


def test_a_second_run_sends_no_embedding_request(finished: Run, tmp_path: Path) -> None:
    again = Run(finished.stores, finished.artifacts, STORE, AS_OF, run_id="again")
    again.stage("clean_catalog")
    metrics = again.stage("embed_products").content["metrics"]
    assert metrics["requests_sent"] == 0
    assert metrics["texts_reused"] == finished.manifests["embed_products"].content["metrics"]["texts_embedded"] == 72


def test_products_whose_text_is_refused_are_recommended_all_the_same(
    spark: SparkSession, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a vector there is no cluster and no similar text, but what customers do still counts."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    settings = Settings(dimensions=16, poison="Alder espresso beans")
    with running_rehearsal_server(settings) as (_, base_url):
        monkeypatch.setenv("OPENAI_BASE_URL", base_url)
        run = Run(shop, tmp_path, STORE, AS_OF).all_stages(evaluate_recommenders=("--ranker-windows", "0"))
    refused = {row["sku"] for row in products() if row["name"] == "Alder espresso beans"}
    assert len(refused) == 2
    ((_, n_products, reason),) = run.rows("embed_products", "embedding_refused", "text_hash", "n_products", "reason")
    assert (n_products, reason) == (2, "refused_by_server")
    members = {
        product_id for product_id, _ in run.rows("cluster_products", "product_clusters", "product_id", "cluster_id")
    }
    assert members == {row["sku"] for row in products()} - refused
    similar = run.rows("build_recommendations", "similar_products", "product_id", "similar_product_id")
    assert {product_id for product_id, _ in similar} >= {row["sku"] for row in products()} - refused
    recommended = {
        item for _, item in run.rows("build_recommendations", "user_recommendations", "user_id", "product_id")
    }
    assert refused <= recommended


def test_every_product_has_one_cluster_and_sizes_add_up(finished: Run) -> None:
    members = finished.rows("cluster_products", "product_clusters", "product_id", "cluster_id")
    assert [product_id for product_id, _ in members] == sorted(row["sku"] for row in products())
    sizes = {
        cluster: size for cluster, size in finished.rows("cluster_products", "clusters", "cluster_id", "size") if size
    }
    counted: dict[int, int] = defaultdict(int)
    for _, cluster in members:
        counted[cluster] += 1
    assert counted == sizes


def test_aisles_do_not_mix_much(finished: Run) -> None:
    """The planted structure is found: most products of a cluster come from one aisle."""
    aisle = {row["sku"]: row["aisle"] for row in products()}
    members: dict[int, list[str]] = defaultdict(list)
    for product_id, cluster in finished.rows("cluster_products", "product_clusters", "product_id", "cluster_id"):
        members[cluster].append(aisle[product_id])
    purity = sum(max(names.count(name) for name in set(names)) for names in members.values()) / 144
    assert purity >= 0.8


def test_every_known_user_gets_a_full_list_without_repeats(finished: Run) -> None:
    known = {row["customer"] for row in events() if row["at"] < AS_OF}
    lists: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for user, rank, product in finished.rows(
        "build_recommendations", "user_recommendations", "user_id", "rank", "product_id"
    ):
        lists[user].append((rank, product))
    assert set(lists) == known
    for rows in lists.values():
        assert sorted(rank for rank, _ in rows) == list(range(1, 11))
        assert len({product for _, product in rows}) == 10


def test_reasons_are_past_products_and_their_shares_sum_to_one(finished: Run) -> None:
    bought: dict[str, set[str]] = defaultdict(set)
    for row in events():
        if row["at"] < AS_OF:
            bought[row["customer"]].add(row["sku"])
    rows = finished.rows("build_recommendations", "user_recommendations", "user_id", "strategy", "reasons")
    explained = [(user, reasons) for user, strategy, reasons in rows if strategy != "popular"]
    assert len(explained) > len(rows) / 2
    for user, reasons in explained:
        assert sum(reason["share"] for reason in reasons) == pytest.approx(1, abs=1e-6)
        assert {reason["product_id"] for reason in reasons} <= bought[user]


def test_similar_products_never_hold_a_twin_of_the_product(finished: Run) -> None:
    name = {row["sku"]: row["name"] for row in products()}
    rows = finished.rows("build_recommendations", "similar_products", "product_id", "similar_product_id")
    assert rows
    assert all(name[product] != name[similar] for product, similar in rows)


def test_similar_lists_are_full_and_leave_no_working_files(finished: Run) -> None:
    counts = Counter(product for (product,) in finished.rows("build_recommendations", "similar_products", "product_id"))
    assert counts == {row["sku"]: 20 for row in products()}
    manifest = finished.manifests["build_recommendations"]
    assert manifest.content["metrics"]["search"] == "exact"
    attempt = Path(manifest.table_uri("similar_products")).parent
    assert {path.name for path in attempt.iterdir()} == set(manifest.content["tables"])


def test_the_backtest_prefers_us_or_habit_to_popularity(finished: Run) -> None:
    values = {
        (model, task): value
        for model, task, metric, k, value in finished.rows(
            "evaluate_recommenders", "recommender_metrics", "model", "task", "metric", "k", "value"
        )
        if metric == "ndcg" and k == 10
    }
    popularity = next(value for (model, task), value in values.items() if "popular" in model and task == "all")
    ours = next(value for (model, task), value in values.items() if model == OURS and task == "all")
    assert ours > popularity


def test_rankers_of_a_day_published_shortly_before_are_taken_over(
    finished: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranker, "MIN_USERS", 5)

    def evaluate(run_id: str) -> Run:
        run = Run(finished.stores, finished.artifacts, STORE, AS_OF, run_id, dict(finished.manifests))
        run.stage("evaluate_recommenders")
        return run

    first = evaluate("learns")
    metrics = first.manifests["evaluate_recommenders"].content["metrics"]
    assert (metrics["ranked_by_all"], metrics["ranker_learned_as_of"]) == ("lambdamart", AS_OF)
    # Where nothing was learned, there is nothing to hand on.
    without = finished.manifests["evaluate_recommenders"].content["metrics"]
    assert (without["ranked_by_all"], without["ranker_learned_as_of"]) == ("blend", None)
    # As if the day before had been published with them.
    root, day = finished.paths.root, RunPaths(finished.paths.root, STORE, date(2024, 5, 31), "")
    learned = {**metrics, "ranker_learned_as_of": "2024-05-31"}
    manifests = {"evaluate_recommenders": first.manifests["evaluate_recommenders"].uri}
    root.put_json(day.published_uri(), {"as_of": "2024-05-31", "metrics": learned, "manifests": manifests})
    try:
        monkeypatch.setattr("shelfkin.evaluation.learning.train", None)  # nothing is trained any more
        second = evaluate("takes over")
    finally:
        root.fs.rm(day.published_uri())
    again = second.manifests["evaluate_recommenders"].content["metrics"]
    assert again["ranker_learned_as_of"] == "2024-05-31"
    for table in ("rankers", "baseline_parameters", "recommender_metrics"):
        assert second.rows("evaluate_recommenders", table) == first.rows("evaluate_recommenders", table)


def test_a_run_may_learn_from_fewer_windows_than_the_profile_says(
    finished: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranker, "MIN_USERS", 5)
    profiles = finished.manifests["evaluate_recommenders"].content["metrics"]
    run = Run(finished.stores, finished.artifacts, STORE, AS_OF, "one window", dict(finished.manifests))
    metrics = run.stage("evaluate_recommenders", "--ranker-windows", "1").content["metrics"]
    assert (profiles["ranker_windows"], metrics["ranker_windows"]) == (2, 1)
    assert metrics["ranked_by_all"] == "lambdamart"
    # No later run that goes by the profile may take these rankers over.
    assert metrics["ranker_key"] != profiles["ranker_key"]
    error = failing(
        finished.stores,
        finished.artifacts,
        "evaluate_recommenders",
        "--ranker-windows",
        "99",
        manifests=finished.manifests,
    )
    assert error["kind"] == "option" and "ranker_windows=99 is not within 0 to 12" in error["message"]


def tables_of(run: Run) -> dict[str, list[tuple[Any, ...]]]:
    return {
        f"{stage}.{table}": run.rows(stage, table)
        for stage, manifest in run.manifests.items()
        for table in manifest.content["tables"]
        if table != "embedding_ledger"
    }


def test_what_happened_later_leaves_no_trace(finished: Run, tmp_path: Path) -> None:
    """The same run on data where every customer later buys one product a hundred times: equal tables, row for row."""
    planted = write_shop(tmp_path)
    later = [
        {"customer": f"C{n % 60:03d}", "sku": "S144", "at": f"{AS_OF} 00:00:00", "n": "9", "order": f"P{n}"}
        for n in range(600)
    ]
    rows = events() + later
    # Another order of rows on disk must not matter either.
    write_csv(planted / "data" / "events.csv", rows[::-1])
    run = Run(planted, tmp_path / "artifacts", STORE, AS_OF).all_stages()
    expected, found = tables_of(finished), tables_of(run)
    assert found.keys() == expected.keys()
    for name, rows_expected in expected.items():
        assert found[name] == rows_expected, name


def test_publish_moves_forward_only_and_what_if_moves_nothing(finished: Run, tmp_path: Path) -> None:
    root = finished.paths.root
    uris = [manifest.uri for manifest in finished.manifests.values()]
    what_if = publish_run(finished.paths, uris, publish=False)
    assert not root.exists(finished.paths.latest_uri())
    assert any("What-if" in line for line in what_if.log_lines)
    published = publish_run(finished.paths, uris, publish=True)
    assert published.is_latest
    pointer = root.read_json(finished.paths.latest_uri())
    assert pointer["tables"]["user_recommendations"]["rows"] == 600
    root.put_json(finished.paths.latest_uri(), {**pointer, "as_of": str(LAST_DAY), "run_id": "newer"})
    older = publish_run(finished.paths, uris, publish=True)
    assert not older.is_latest
    assert root.read_json(finished.paths.latest_uri())["run_id"] == "newer"
    root.put_json(finished.paths.latest_uri(), pointer)


def opened(published: PublishResult) -> ServingIndex:
    pointer = {"run_id": "test", "store": STORE, **published.manifest.content["metrics"]}
    return open_index(published.manifest.root, pointer, Path("/unused"))


def test_the_index_answers_show_and_recommend(finished: Run) -> None:
    uris = [manifest.uri for manifest in finished.manifests.values()]
    published = publish_run(finished.paths, uris, publish=False)
    with opened(published) as index:
        text = "\n".join(show_run(index, finished.manifests["evaluate_recommenders"].content["metrics"]))
        found = recommend_for_session(index, ["S001", "S030", "NOPE"], 5)
    assert "CLUSTERS (" in text and text.count("CUSTOMER C") == 3 and "QUALITY: what customers bought" in text
    assert found.unknown_ids == ("NOPE",)
    assert [item.rank for item in found.items] == [1, 2, 3, 4, 5]
    assert not {item.product_id for item in found.items} & {"S001", "S030"}


def failing(
    shop: Path,
    tmp_path: Path,
    stage: str,
    *flags: str,
    store: str = STORE,
    as_of: str = AS_OF,
    manifests: dict[str, Manifest] | None = None,
) -> dict[str, Any]:
    run = Run(shop, tmp_path / "artifacts", store, as_of, manifests=dict(manifests or {}))
    with pytest.raises(SystemExit):
        run.stage(stage, *flags)
    return run.error(stage)


def test_a_wrong_store_name_lists_the_known_ones(spark: SparkSession, shop: Path, tmp_path: Path) -> None:
    error = failing(shop, tmp_path, "clean_catalog", store="corner_shpo")
    assert error["kind"] == "profile" and not error["retryable"]
    assert "known stores: corner_shop" in error["message"]


def test_a_date_that_has_not_begun_is_refused(spark: SparkSession, shop: Path, tmp_path: Path) -> None:
    error = failing(shop, tmp_path, "clean_catalog", as_of="2099-01-01")
    assert error["kind"] == "option" and "as_of=2099-01-01 lies in the future" in error["message"]


def test_a_missing_file_is_named(spark: SparkSession, tmp_path: Path) -> None:
    stores = write_shop(tmp_path)
    (stores / "data" / "events.csv").unlink()
    error = failing(stores, tmp_path, "clean_events")
    assert error["kind"] == "source" and "events.csv" in error["message"] and error["next_step"]


def test_a_missing_column_is_named_with_the_columns_there_are(spark: SparkSession, tmp_path: Path) -> None:
    stores = write_shop(tmp_path)
    write_csv(stores / "data" / "products.csv", [{"sku": "S1", "label": "x"}])
    error = failing(stores, tmp_path, "clean_catalog")
    assert error["kind"] == "source"
    assert "name" in error["message"] and "label" in error["message"]


def test_an_empty_catalogue_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    stores = write_shop(tmp_path)
    (stores / "data" / "products.csv").write_text("sku,name,aisle,brand,price\n")
    error = failing(stores, tmp_path, "clean_catalog")
    assert not error["retryable"] and "no catalogue rows" in error["message"]


def test_when_all_rows_are_quarantined_the_top_reason_is_named(spark: SparkSession, tmp_path: Path) -> None:
    stores = write_shop(tmp_path)
    write_csv(stores / "data" / "products.csv", [{**row, "name": " "} for row in products()])
    error = failing(stores, tmp_path, "clean_catalog")
    assert error["kind"] == "data_quality" and "empty_title" in error["message"] and "144" in error["message"]


def test_data_that_ended_years_ago_names_a_sensible_as_of(spark: SparkSession, tmp_path: Path) -> None:
    stores = write_shop(tmp_path, max_staleness_days=30, schedule="0 3 * * *", start_date="2024-01-01")
    error = failing(stores, tmp_path, "clean_events", as_of="2026-11-23")
    last = max(row["at"] for row in events())[:10]
    assert error["kind"] == "stale_data" and not error["retryable"]
    assert last in error["message"] + error["next_step"]
    assert "2024-07-" in error["next_step"] or "2024-06-" in error["next_step"]


def test_a_store_without_events_says_so_and_still_finds_similar_products(spark: SparkSession, tmp_path: Path) -> None:
    stores = write_shop(tmp_path, events=None)
    run = Run(stores, tmp_path / "artifacts", STORE, AS_OF).all_stages()
    built = run.manifests["build_recommendations"]
    assert built.rows("user_recommendations") == 0
    assert "no events" in built.content["metrics"]["skipped_reason"]
    assert built.rows("similar_products") > 0
    published = publish_run(run.paths, [manifest.uri for manifest in run.manifests.values()], publish=True)
    with opened(published) as index:
        found = recommend_for_session(index, ["S001", "S060"], 100)
        text = "\n".join(show_run(index, built.content["metrics"]))
    # All there is: 72 texts, of which the session has seen two.
    assert len(found.items) == 70 and not {item.product_id for item in found.items} & {"S001", "S060"}
    assert "no personal lists" in text


def test_a_later_run_leaves_out_who_was_erased(spark: SparkSession, shop: Path, tmp_path: Path) -> None:
    run = Run(shop, tmp_path, STORE, AS_OF)
    root = run.paths.root
    record_erased(root, STORE, ErasedUsers.of(root, STORE, IdRule()).only("C007"), "ada", "ticket 12")
    counts = run.stage("clean_events").content["counts"]
    others = [row for row in events() if row["customer"] != "C007"]
    assert counts["rows_in"] == len(events()) and counts["erased"] == len(events()) - len(others)
    kept = [(row["customer"], row["sku"]) for row in others if row["at"] < AS_OF]
    assert run.rows("clean_events", "events", "user_id", "product_id") == sorted(kept, key=repr)
    for table in ("events_quarantine", "events_report"):
        assert "C007" not in str(run.rows("clean_events", table))
