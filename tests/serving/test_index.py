"""The serving index: what each look-up finds, searching as one types, and where the file comes from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finished_run import Rows, stamped_rows, write_run
from shelfkin import tables
from shelfkin.artifacts import Root
from shelfkin.errors import ArtifactError
from shelfkin.serving import build_index
from shelfkin.serving.index import MAP_POINT, ServingIndex, UserPage, open_index
from shelfkin.serving.publish import publish_run

TITLES = {
    "p000000": "Blue Café Mug",
    "p000001": "Blueberry jam, 340 g",
    "p000002": "Mug, blue",
    "p000003": "T-Shirt (blue)",
    "AB-12": "無線イヤホン",
}


def shop_rows() -> Rows:
    rows = stamped_rows(3)
    for row, (product_id, title) in zip(rows[tables.PRODUCTS], TITLES.items(), strict=False):
        row |= {"product_id": product_id, "title": title}
    rows[tables.POPULAR_PRODUCTS] = [
        {"scope": scope, "rank": 1, "product_id": product_id, "score": score}
        for scope, product_id, score in (("all", "p000002", 0.9), ("cluster:1", "p000001", 0.2))
    ]
    # Two products of one text: the more popular one stands on the map.
    for number in (2, 1):
        rows[tables.PRODUCTS][number]["text_hash"] = "t1"
    rows[tables.PRODUCTS][3]["text_hash"] = "t2"
    rows[tables.CLUSTER_PROJECTION] = [
        {"text_hash": "t2", "cluster_id": 1, "x": -0.5, "y": 0.25},
        {"text_hash": "t1", "cluster_id": 1, "x": 0.5, "y": 0.75},
        {"text_hash": "gone", "cluster_id": 1, "x": 0.0, "y": 0.0},
    ]
    moment = datetime(2024, 5, 1, 12, tzinfo=UTC)
    rows[tables.EVENTS] = [
        {"user_id": user, "product_id": product, "event_type": "purchase", "occurred_at": moment, "quantity": 2.0}
        for user, product in [
            ("u1", "p000003"),
            ("u1", "gone"),
            ("u0", "p000003"),
            (None, "p000000"),
            ("new", "p000003"),
        ]
    ]
    return rows


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingIndex]:
    paths, uris = write_run(tmp_path_factory.mktemp("shop"), shop_rows())
    publish_run(paths, uris, publish=True)
    with open_index(paths.root, paths.root.read_json(paths.latest_uri()), Path("/unused")) as opened:
        yield opened


def ids_of_search(index: ServingIndex, typed: str, n: int = 9) -> list[str]:
    return [product.product_id for product in index.search(typed, n)]


def test_products_are_numbered_by_popularity_then_events_then_id(index: ServingIndex) -> None:
    first = sorted(index.numbered([1, 2, 3, 4, 5]))
    assert [product.product_id for product in first] == ["p000002", "p000001", "p000003", "p000000", "AB-12"]
    assert first[0] == (1, "p000002", "Mug, blue", None, ["a", "b"], 3.0, None, None, first[0].text, 1, 1)


def test_similar_products_come_in_order_with_their_scores(index: ServingIndex) -> None:
    (product,) = index.products(["p000010"])
    similar = index.similar([product.number])[product.number]
    products = {other.number: other.product_id for other in index.numbered([one.number for one in similar])}
    assert [products[one.number] for one in similar] == [f"p{number:06d}" for number in range(11, 16)]
    assert {(one.score, one.content_score, one.co_purchase_score, one.sellable) for one in similar} == {(3, 3, 0, True)}


def test_a_user_has_a_list_with_reasons_and_recent_events_with_products_that_are_gone(index: ServingIndex) -> None:
    page = index.user("u1")
    reasons = [{"product_id": "p000000", "share": pytest.approx(0.003)}]
    event = {"event_type": "purchase", "occurred_at": "2024-05-01 12:00:00+00", "quantity": 2.0}
    known = {"n_purchases": 0, "last_purchase": None}
    assert page == UserPage(
        [{"product_id": "p000001", "score": 3.0, "strategy": "content", "reasons": reasons, **known}],
        [{"product_id": "gone", **event}, {"product_id": "p000003", **event}],
    )
    assert index.user("new") == UserPage([], page.recent_events[1:])
    assert index.user("nobody") is None and index.user("\udcff") is None
    # The users with lists, by their number of recent events.
    assert index.example_users()[0] == "u1" and "new" not in index.example_users()


def test_the_map_has_one_point_per_text_under_its_most_popular_product(index: ServingIndex) -> None:
    points = np.frombuffer(index.map_points(), MAP_POINT).tolist()
    assert points == [(1, 1, 0.5, 0.75), (3, 1, -0.5, 0.25)]


def test_users_are_the_same_however_many_go_in_at_a_time(
    index: ServingIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_index, "_USERS_AT_ONCE", 2)
    paths, uris = write_run(tmp_path, shop_rows())
    publish_run(paths, uris, publish=True)
    users = [*(f"u{number}" for number in range(5)), "new"]
    with open_index(paths.root, paths.root.read_json(paths.latest_uri()), tmp_path) as in_twos:
        assert [in_twos.user(user) for user in users] == [index.user(user) for user in users]
        assert in_twos.example_users() == index.example_users()


def test_clusters_figures_and_the_run_are_there(index: ServingIndex) -> None:
    run = {"store": "shop", "as_of": "2024-06-01", "run_id": "r1", "n_users_with_lists": 5}
    assert index.run() == run
    (cluster,) = index.clusters()
    assert (cluster["cluster_id"], cluster["name"], cluster["size"], cluster["top_terms"]) == (1, "name 3", 3, ["x"])
    (figure,) = index.metrics()
    assert (figure["cut"], figure["metric"], figure["k"], figure["value"]) == ("2024-01-01", "ndcg", 10, 3.0)
    assert index.example_product().product_id in TITLES


@pytest.mark.parametrize(
    ("typed", "ids"),
    [
        ("blue", ["p000002", "p000001", "p000003", "p000000"]),
        ("BLUE m", ["p000002", "p000000"]),
        ("cafe", ["p000000"]),
        ("caf\u00e9", ["p000000"]),
        ("cafe\u0301 blu", ["p000000"]),
        ("t-shi", ["p000003"]),
        ("p00000", ["p000002", "p000001", "p000003", "p000000", *(f"p{number:06d}" for number in range(5, 10))]),
        ("ab-12", ["AB-12"]),
        ("ab-1", ["AB-12"]),
        ("無線", ["AB-12"]),
        ("lue", []),
        ("", []),
        (" \t", []),
        ("---", []),
    ],
)
def test_a_search_finds_beginnings_of_words_and_ids(index: ServingIndex, typed: str, ids: list[str]) -> None:
    assert ids_of_search(index, typed) == ids
    assert ids_of_search(index, typed, 1) == ids[:1]


@given(st.text(max_size=40))
def test_whatever_is_typed_a_search_answers(index: ServingIndex, typed: str) -> None:
    assert len(index.search(typed, 5)) <= 5


@pytest.mark.parametrize(
    "typed", ['"', "a OR b", "title:mug", "NEAR(a b)", "mug*", "^mug", "a\0b", "\udcff", "x " * 10_000]
)
def test_the_language_of_queries_is_not_spoken(index: ServingIndex, typed: str) -> None:
    assert set(ids_of_search(index, typed)) <= {"p000000", "p000002"}


def test_an_index_elsewhere_is_fetched_once(tmp_path: Path) -> None:
    paths, uris = write_run(tmp_path / "artifacts", stamped_rows(1))
    publish_run(paths, uris, publish=True)
    pointer = paths.root.read_json(paths.latest_uri())
    remote = Root("memory://shelf")
    remote.fs.put_file(pointer["serving_index"], "memory://shelf/i.sqlite")
    moved = {**pointer, "serving_index": "memory://shelf/i.sqlite"}
    with open_index(remote, moved, tmp_path / "cache") as index:
        assert index.run()["run_id"] == "r1"
    fsspec.filesystem("memory").pipe_file("/shelf/i.sqlite", b"not fetched again")
    with open_index(remote, moved, tmp_path / "cache") as index:
        assert index.products(["p000001"])[0].title == "title 1"
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["i.sqlite"]


def test_an_index_of_another_version_or_one_that_is_gone_says_what_to_do(tmp_path: Path) -> None:
    paths, uris = write_run(tmp_path / "artifacts", stamped_rows(1))
    publish_run(paths, uris, publish=True)
    pointer = paths.root.read_json(paths.latest_uri())
    older = Path(pointer["serving_index"]).with_name("older.sqlite")
    older.write_bytes(b"")  # an empty database, of layout 0
    for uri, says in (
        ("/runs/index.duckdb", "has an index of an older version: /runs/index.duckdb"),
        ("/gone.sqlite", "names /gone.sqlite, which is gone"),
        (str(older), "has layout 0; this version reads 2"),
    ):
        with pytest.raises(ArtifactError, match=says) as caught:
            open_index(paths.root, {**pointer, "serving_index": uri}, tmp_path)
        assert "Publish again" in caught.value.next_step


def test_the_examples_of_the_documentation_run(tmp_path: Path) -> None:
    paths, uris = write_run(tmp_path, shop_rows())
    publish_run(paths, uris, publish=True)
    text = (Path(__file__).resolve().parents[2] / "docs" / "serving.md").read_text()
    opened, whole_tables, _ = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    names: dict[str, Any] = {}
    for documented, here in (("/srv/shelfkin/artifacts", str(tmp_path)), ("my_shop", "shop"), ("C17", "u1")):
        opened = opened.replace(documented, here)
    exec(opened.replace("P316", "p000010") + whole_tables, names)  # noqa: S102 - our own text
    assert [len(names[name]) for name in ("others", "products")] == [5, 2] and names["page"].recent_events
