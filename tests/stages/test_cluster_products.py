"""select_k and cluster_products on real Spark, over planted vectors and hand-made titles."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chat_server
from shelfkin.app import app_of
from shelfkin.artifacts import Manifest, Root, RunPaths
from shelfkin.clustering import choose_k, k_rule
from shelfkin.clustering.members import count_members, fingerprint
from shelfkin.clustering.vectors import sample
from shelfkin.errors import ArtifactError, DataQualityError, OptionError
from shelfkin.profile import StoreProfile
from shelfkin.settings import Settings
from shelfkin.stage import Stage

pytestmark = pytest.mark.spark

VECTORS_DDL = "text_hash string, n_products bigint, vector array<float>"
PRODUCTS_DDL = "product_id string, title string, category_path array<string>, text_hash string, brand string"
SHELVES = ("Yogurt", "Candles", "Batteries", "Greeting Cards", "Tents")


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def shelf_rows(n_per_shelf: int = 12, shelves: Sequence[str] = SHELVES) -> tuple[list[tuple], list[tuple]]:
    """Return rows of products and product_vectors: every shelf has its own direction; the first text has a twin."""
    random = np.random.default_rng(0)
    products, vectors = [], []
    for place, shelf in enumerate(shelves):
        for number in range(n_per_shelf):
            title = f"{shelf} no. {number}"
            vector = 0.05 * random.normal(size=8)
            vector[place] += 1
            vector /= np.linalg.norm(vector)
            twins = 2 if number == 0 else 1
            vectors.append((sha(title), twins, [float(value) for value in vector]))
            products += [(f"P{place}-{number:02d}-{twin}", title, None, sha(title), None) for twin in range(twins)]
    return products, vectors


@pytest.fixture
def run_app(spark: Any, tmp_path: Path) -> Callable[..., Manifest]:
    """Run one app on hand-made input tables and return its manifest; keyword arguments go into the profile."""

    def run(
        name: str, tables: dict[str, tuple[list[tuple], str]], day: date, k: int | None = None, **clustering: Any
    ) -> Manifest:
        root = Root.at(str(tmp_path / "art"))
        stages = {"products": "clean_catalog", "product_vectors": "embed_products"}
        inputs = {}
        for table, (rows, ddl) in tables.items():
            path = f"in/{name}-{day}-{table}"
            spark.createDataFrame(rows, ddl).repartition(3).write.mode("overwrite").parquet(root.join(path))
            metrics = {"model": "m", "dimensions": 8}
            inputs[stages[table]] = {"tables": {table: {"path": path, "rows": len(rows)}}, "metrics": metrics}
        inputs["select_k"] = {"tables": {}, "metrics": {"k": k}}
        manifests = {}
        for stage_name, content in inputs.items():
            uri = root.join(f"in/{name}-{day}-{stage_name}.json")
            root.put_json(uri, {"format_version": 1, "stage": stage_name, **content})
            manifests[stage_name] = Manifest.read(root, uri)
        profile = StoreProfile.model_validate(
            {
                "store": "shop",
                "title": "A $hop",
                "catalog": {
                    "kind": "snapshot",
                    "source": {"path": "x.csv"},
                    "fields": {"product_id": "id", "title": "title"},
                },
                "clustering": {"k_min": 2, "k_max": 12, **clustering},
            }
        )
        stage = Stage(
            name=name,
            paths=RunPaths(root, "shop", day, "run"),
            profile=profile,
            settings=Settings.from_env({}),
            attempt="attempt-1",
            options=argparse.Namespace(k=k),
            inputs=manifests,
        )
        app_of(name).run(stage)
        uri = stage.paths.manifest_uri(name)
        root.put_json(uri, stage.manifest())
        return Manifest.read(root, uri)

    return run


def rows_of(spark: Any, manifest: Manifest, table: str) -> list[Any]:
    frame = spark.read.parquet(manifest.table_uri(table))
    return frame.orderBy(frame.columns[0]).collect()


def test_planted_shelves_give_their_number(run_app: Callable[..., Manifest], spark: Any) -> None:
    _, vectors = shelf_rows()
    done = run_app("select_k", {"product_vectors": (vectors, VECTORS_DDL)}, date(2020, 1, 2))
    metrics = done.content["metrics"]
    assert (metrics["k"], metrics["k_rule"]) == (5, "peak")
    assert set(done.content["plots"]) == {"k_choice"}
    assert [row["k"] for row in rows_of(spark, done, "k_scores") if row["chosen"]] == [5]
    assert len(json.dumps(done.xcom())) < 2048


def test_given_k_is_used_and_said(run_app: Callable[..., Manifest]) -> None:
    _, vectors = shelf_rows()
    done = run_app("select_k", {"product_vectors": (vectors, VECTORS_DDL)}, date(2020, 1, 2), k=7)
    assert done.content["metrics"]["k"] == 7
    assert "k=7 was given. The automatic rule would take k=5" in done.content["metrics"]["reason"]


def test_given_k_beyond_the_vectors_is_refused(run_app: Callable[..., Manifest]) -> None:
    _, vectors = shelf_rows()
    with pytest.raises(OptionError, match="k=80 exceeds 60 distinct vectors; lower --k"):
        run_app("select_k", {"product_vectors": (vectors, VECTORS_DDL)}, date(2020, 1, 2), k=80)


@pytest.mark.parametrize(("n_texts", "words"), [(1, "share one text vector"), (2, "only 2 distinct vectors")])
def test_too_few_texts_have_a_defined_outcome(spark: Any, n_texts: int, words: str) -> None:
    vectors = np.eye(4, dtype=np.float32)[:n_texts]
    choice = choose_k.choose_k(spark.sparkContext, vectors, np.ones(n_texts), k_rule.Limits(5, 60))
    assert (choice.k, choice.rule) == (n_texts, "degenerate")
    assert words in choice.reason


def test_no_vectors_at_all_is_an_error(spark: Any) -> None:
    with pytest.raises(DataQualityError, match="no product vectors"):
        choose_k.choose_k(spark.sparkContext, np.empty((0, 4), np.float32), np.empty(0), k_rule.Limits(5, 60))


def test_sample_ignores_row_order_and_respects_its_limit(spark: Any) -> None:
    _, vectors = shelf_rows(40)
    first = sample(spark.createDataFrame(vectors, VECTORS_DDL).repartition(3), 60)
    again = sample(spark.createDataFrame(vectors[::-1], VECTORS_DDL).repartition(2), 60)
    assert first[0].tolist() == again[0].tolist() == sorted(first[0].tolist())
    assert (first[1] == again[1]).all()
    assert 30 <= len(first[0]) <= 60


def test_clusters_are_named_after_their_shelves_and_keep_their_ids(
    run_app: Callable[..., Manifest], spark: Any
) -> None:
    products, vectors = shelf_rows()
    tables = {"products": (products, PRODUCTS_DDL), "product_vectors": (vectors, VECTORS_DDL)}
    first = run_app("cluster_products", tables, date(2020, 1, 2), k=5)
    clusters = rows_of(spark, first, "clusters")
    assert sorted(row["name"] for row in clusters) == sorted(SHELVES)
    assert {row["size"] for row in clusters} == {13}
    assert {row["name_share"] for row in clusters} == {1}  # every title holds its shelf
    assert {row["status"] for row in clusters} == {"born"}
    assert all(len(row["representative_product_ids"]) == 1 for row in clusters)  # titles differ in numbers only
    assert all(0 < row["distance_median"] <= row["distance_p90"] for row in clusters)
    flagged = sum(row["is_outlier"] for row in rows_of(spark, first, "product_clusters"))
    assert flagged == sum(row["n_outliers"] for row in clusters) == first.content["metrics"]["outliers"]
    assert first.content["metrics"]["names_from_model"] == 0
    of_product = {row["product_id"]: row["cluster_id"] for row in rows_of(spark, first, "product_clusters")}
    assert len(of_product) == 65
    assert of_product["P0-00-0"] == of_product["P0-00-1"]

    # The next day: other order, one product more, a shelf gone.
    kept = [row for row in products[::-1] if not row[0].startswith("P4")] + [
        ("NEW", "Yogurt x", None, vectors[3][0], None)
    ]
    still = {row[3] for row in kept}
    tables = {
        "products": (kept, PRODUCTS_DDL),
        "product_vectors": ([row for row in vectors[::-1] if row[0] in still], VECTORS_DDL),
    }
    second = run_app("cluster_products", tables, date(2020, 1, 3), k=4)
    metrics = second.content["metrics"]
    assert (metrics["clusters_kept"], metrics["clusters_born"], metrics["clusters_retired"]) == (4, 0, 1)
    now = {row["product_id"]: row["cluster_id"] for row in rows_of(spark, second, "product_clusters")}
    assert now["NEW"] == of_product["P0-03-0"]
    assert all(now[product] == of_product[product] for product in now if product != "NEW")
    drift = {"drift_ari": 1, "share_moved": 0, "products_common": 52, "products_new": 1, "products_gone": 13}
    assert drift.items() <= metrics.items()
    assert metrics["identity_note"].endswith("as of 2020-01-02 by centroids and products")
    assert "drift" in second.content["plots"] and "drift" not in first.content["plots"]
    names = {row["cluster_id"]: row["name"] for row in clusters}
    assert all(row["name"] == names[row["cluster_id"]] for row in rows_of(spark, second, "clusters"))
    assert len(json.dumps(second.xcom())) < 2048


def shelf_tables(n_per_shelf: int = 12, shelves: Sequence[str] = SHELVES) -> dict[str, tuple[list[tuple], str]]:
    products, vectors = shelf_rows(n_per_shelf, shelves)
    return {"products": (products, PRODUCTS_DDL), "product_vectors": (vectors, VECTORS_DDL)}


def lineage_of(manifest: Manifest, day: str) -> tuple[dict[str, Any], str]:
    uri = manifest.root.join("stores", "shop", "lineage", f"as_of={day}.json")
    return manifest.root.read_json(uri), uri


def test_a_larger_k_splits_one_cluster_and_leaves_the_others(run_app: Callable[..., Manifest], spark: Any) -> None:
    first = run_app("cluster_products", shelf_tables(), date(2020, 1, 2), k=4)
    second = run_app("cluster_products", shelf_tables(), date(2020, 1, 3), k=5)
    metrics = second.content["metrics"]
    assert (metrics["clusters_kept"], metrics["clusters_born"], metrics["clusters_split"]) == (4, 1, 1)
    assert (metrics["share_moved"], metrics["products_common"]) == (0.2, 65)
    double = next(row["cluster_id"] for row in rows_of(spark, first, "clusters") if row["size"] == 26)
    assert {row["split_from"] for row in rows_of(spark, second, "clusters")} == {None, double}
    entry = next(cluster for cluster in lineage_of(second, "2020-01-03")[0]["clusters"] if cluster["status"] == "born")
    assert (entry["split_from"], entry["n_common"], entry["n_from"]) == (double, 13, 13)
    third = run_app("cluster_products", shelf_tables(), date(2020, 1, 4), k=4)
    assert third.content["metrics"]["clusters_merged"] == 1
    (gone,) = lineage_of(third, "2020-01-04")[0]["gone"]
    assert (gone["n_common"], gone["n_into"]) == (13, 13)


def test_without_yesterdays_products_centroids_decide_and_it_is_said(run_app: Callable[..., Manifest]) -> None:
    first = run_app("cluster_products", shelf_tables(), date(2020, 1, 2), k=5)
    content, uri = lineage_of(first, "2020-01-02")
    folder = Path(first.table_uri("product_clusters"))

    def second(reason: str) -> None:
        done = run_app("cluster_products", shelf_tables(), date(2020, 1, 3), k=5)
        assert done.content["metrics"]["clusters_kept"] == 5
        assert done.content["metrics"]["identity_note"].endswith(f"by centroids only ({reason})")
        assert done.content["metrics"]["drift_ari"] is None and "drift" not in done.content["plots"]

    for file in folder.iterdir():
        file.unlink()
    second("its product_clusters table is empty")
    folder.rmdir()
    second("its product_clusters table is gone")
    first_format = {key: content[key] for key in ("as_of", "run_id", "model", "clusters", "gone")}
    first.root.put_json(uri, {**first_format, "format_version": 1, "predecessor": None})
    second("that lineage doesn't name its product_clusters table")


def test_a_changed_day_makes_later_days_stale_until_they_run_again(
    run_app: Callable[..., Manifest], spark: Any
) -> None:
    for day in (2, 3):
        run_app("cluster_products", shelf_tables(), date(2020, 1, day), k=5)
    # The same catalogue, in another order, makes the same clusters: nothing is stale.
    turned = {table: (rows[::-1], ddl) for table, (rows, ddl) in shelf_tables().items()}
    assert "stale_from" not in run_app("cluster_products", turned, date(2020, 1, 2), k=5).content["metrics"]
    changed = run_app("cluster_products", shelf_tables(shelves=SHELVES[:4]), date(2020, 1, 2), k=4).content["metrics"]
    assert (changed["stale_from"], changed["stale_days"], changed["predecessor_stale"]) == ("2020-01-03", 1, False)
    skipping = run_app("cluster_products", shelf_tables(), date(2020, 1, 4), k=5)
    assert skipping.content["metrics"]["predecessor_stale"] is True
    assert "stale themselves: those as of 2020-01-02" in skipping.content["metrics"]["identity_note"]
    assert "stale" in lineage_of(skipping, "2020-01-04")[0]
    again = run_app("cluster_products", shelf_tables(), date(2020, 1, 3), k=5)
    assert again.content["metrics"]["predecessor_stale"] is False
    assert "stale" not in lineage_of(again, "2020-01-03")[0]
    assert len(json.dumps(skipping.xcom())) < 2048


def test_products_are_counted_by_old_and_new_cluster(spark: Any) -> None:
    before = spark.createDataFrame(
        [("A", 7), ("B", 7), ("C", 9), ("D", 9), ("E", 9)], "product_id string, cluster_id int"
    )
    now = spark.createDataFrame([("A", 0), ("B", 1), ("C", 1), ("D", 1), ("X", 0)], "product_id string, cluster int")
    found = count_members(before, now, (9, 7), 3)
    assert found.common.tolist() == [[0, 2, 0], [1, 1, 0]]
    assert (found.gone.tolist(), found.new.tolist()) == ([1, 0], [1, 0, 0])
    with pytest.raises(ArtifactError, match="holds cluster 9, which its lineage doesn't name"):
        count_members(before, now, (7,), 3)


def test_a_fingerprint_sees_one_moved_product_but_no_order(spark: Any) -> None:
    rows = [(f"P{number}", number % 3) for number in range(50)]
    ddl = "product_id string, cluster_id int"
    same = [fingerprint(spark.createDataFrame(some, ddl).repartition(n)) for some, n in ((rows, 1), (rows[::-1], 4))]
    assert same[0] == same[1]
    # Two products change places: all sizes stay.
    swapped = [("P0", 1), ("P1", 0), *rows[2:]]
    assert fingerprint(spark.createDataFrame(swapped, ddl)) != same[0]


def test_tables_do_not_depend_on_row_order(run_app: Callable[..., Manifest], spark: Any, tmp_path: Path) -> None:
    products, vectors = shelf_rows()
    found = []
    for turn in (1, -1):
        tables = {"products": (products[::turn], PRODUCTS_DDL), "product_vectors": (vectors[::turn], VECTORS_DDL)}
        done = run_app("cluster_products", tables, date(2020, 1, 2), k=6)
        found.append([rows_of(spark, done, table) for table in ("product_clusters", "clusters", "cluster_projection")])
    assert found[0] == found[1]


def test_a_fit_on_a_sample_assigns_every_product(run_app: Callable[..., Manifest], spark: Any) -> None:
    products, vectors = shelf_rows(60)
    tables = {"products": (products, PRODUCTS_DDL), "product_vectors": (vectors, VECTORS_DDL)}
    whole, sampled = (
        rows_of(spark, run_app("cluster_products", tables, date(2020, 1, 2), k=5, fit_sample=n), "product_clusters")
        for n in (100_000, 100)
    )
    assert len(sampled) == len(products)
    # The same shelves; only their numbers may differ.
    pairs = {(one["cluster_id"], other["cluster_id"]) for one, other in zip(whole, sampled, strict=True)}
    assert len(pairs) == 5


@pytest.mark.parametrize("fit_sample", [100_000, 100])
def test_a_vector_of_nan_stops_the_run(run_app: Callable[..., Manifest], fit_sample: int) -> None:
    products, vectors = shelf_rows(60)
    vectors.sort()
    # The last hash is outside a sample of the lowest.
    vectors[-1] = (vectors[-1][0], vectors[-1][1], [float("nan")] * 8)
    tables = {"products": (products, PRODUCTS_DDL), "product_vectors": (vectors, VECTORS_DDL)}
    with pytest.raises(DataQualityError, match="hold NaN or infinity"):
        run_app("cluster_products", tables, date(2020, 1, 2), k=5, fit_sample=fit_sample)


def test_a_chat_model_names_only_what_has_no_name_yet(
    run_app: Callable[..., Manifest], spark: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    products, vectors = shelf_rows()
    tables = {"products": (products, PRODUCTS_DDL), "product_vectors": (vectors, VECTORS_DDL)}
    caplog.set_level("INFO", logger="shelfkin")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-PLANTED")
    with chat_server.running() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        born = date(2020, 1, 2).toordinal() - date(1970, 1, 1).toordinal()
        server.say(json.dumps({f"{born}0000": "First of All", f"{born}0001": "<script>"}))
        first = run_app("cluster_products", tables, date(2020, 1, 2), k=5, naming_model="small-chat")
        names = [row["name"] for row in rows_of(spark, first, "clusters")]
        assert names[0] == "First of All" and set(names[1:]) < set(SHELVES)
        assert first.content["metrics"]["names_from_model"] == 1
        asked = json.loads(server.seen[0][1]["messages"][1]["content"])["clusters"]
        assert len(asked) == 5 and all(cluster["titles"] for cluster in asked)
        # The next day all clusters are kept, and so are their names: nothing to ask.
        second = run_app("cluster_products", tables, date(2020, 1, 3), k=5, naming_model="small-chat")
        assert [row["name"] for row in rows_of(spark, second, "clusters")] == names
        assert len(server.seen) == 1
    assert "1 of 5 names are the chat model's" in caplog.text
    assert "PLANTED" not in caplog.text + json.dumps(first.content)


def test_without_a_server_the_setting_changes_nothing(
    run_app: Callable[..., Manifest], spark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(variable, raising=False)
    products, vectors = shelf_rows()
    tables = {"products": (products, PRODUCTS_DDL), "product_vectors": (vectors, VECTORS_DDL)}
    done = run_app("cluster_products", tables, date(2020, 1, 2), k=5, naming_model="small-chat")
    assert sorted(row["name"] for row in rows_of(spark, done, "clusters")) == sorted(SHELVES)
