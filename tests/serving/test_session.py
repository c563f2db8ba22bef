"""Lists for sessions: what they promise whatever the shop, hostile questions, threads, and the command."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finished_run import SCHEMAS, Rows, stamped_rows, write_run
from shelfkin import __main__ as command
from shelfkin import tables
from shelfkin.errors import ArtifactError, OptionError
from shelfkin.serving.build_index import TABLES, build_index
from shelfkin.serving.index import MAX_RECENT, Filler, Product, ServingIndex, SimilarProduct
from shelfkin.serving.publish import publish_run
from shelfkin.serving.session import SessionList, fill_up, most_similar, recommend_for_session


@dataclass(frozen=True)
class Item:
    """A product of a test's shop."""

    product_id: str
    text: str | None
    cluster: int | None = None
    distance: float = 0.5
    sold_out: bool = False


def write_index(
    folder: Path, items: list[Item], similar: list[tuple[str, str, float]], popular: dict[str, list[str]]
) -> ServingIndex:
    """Build the serving index of a shop of these tables."""
    rows: Rows = {table: [] for table in SCHEMAS}
    for item in items:
        rows[tables.PRODUCTS].append(
            {
                "product_id": item.product_id,
                "title": f"title of {item.product_id}",
                "text_hash": item.text,
                "in_stock": False if item.sold_out else None,
            }
        )
        if item.cluster is not None:
            rows[tables.PRODUCT_CLUSTERS].append(
                {"product_id": item.product_id, "cluster_id": item.cluster, "distance": item.distance}
            )
    for product_id, other, score in similar:
        rows[tables.SIMILAR_PRODUCTS].append(
            {"product_id": product_id, "rank": 1, "similar_product_id": other, "score": score}
        )
    for scope, ids in popular.items():
        for rank, product_id in enumerate(ids, start=1):
            rows[tables.POPULAR_PRODUCTS].append({"scope": scope, "rank": rank, "product_id": product_id, "score": 1.0})
    with duckdb.connect() as db:
        for table in TABLES:
            db.register(table, pa.Table.from_pylist(rows[table], schema=SCHEMAS[table][1]))
        path = folder / f"{len(list(folder.iterdir()))}.sqlite"
        build_index(db, ("shop", "2024-06-01", "r1"), path)
    return ServingIndex(path)


def shown(listed: SessionList) -> list[tuple[str, str, str | None]]:
    return [(item.product_id, item.strategy, item.because_id) for item in listed.items]


SHOP = [
    Item("mug", "t1", 1),
    Item("mug again", "t1", 1),
    Item("cup", "t2", 1),
    Item("cup sold out", "t3", 1, sold_out=True),
    Item("saucer", "t4", 1, distance=0.1),
    Item("rake", "t5", 2),
    Item("rake again", "t5", 2),
    Item("spade", "t6", 2, distance=0.3),
    Item("card", "t7"),
]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[ServingIndex]:
    similar = [
        *(("mug", "cup", 0.9), ("mug", "cup sold out", 0.95), ("mug", "mug again", 1.0)),
        *(("rake", "cup", 0.9), ("rake", "spade", 0.5)),
    ]
    popular = {"all": ["rake again", "cup sold out", "spade"], "cluster:1": ["mug again", "saucer"], "cluster:2": []}
    with write_index(tmp_path, SHOP, similar, popular) as index:
        yield index


def test_similar_first_then_popular_in_the_cluster_then_in_the_store_then_typical(shop: ServingIndex) -> None:
    assert shown(recommend_for_session(shop, ["mug"], 9)) == [
        ("cup", "similar", "mug"),
        ("saucer", "popular_in_cluster", "mug"),
        ("rake again", "popular", None),
        ("spade", "popular", None),
        ("card", "typical", None),
    ]


def test_unknown_products_are_reported_and_a_session_of_nothing_else_gets_what_is_popular(shop: ServingIndex) -> None:
    answer = recommend_for_session(shop, ["x", "rake", "y", "x"], 2)
    assert answer.unknown_ids == ("y", "x") and answer.recent == (("rake", "title of rake"),)
    assert shown(answer) == [("cup", "similar", "rake"), ("spade", "similar", "rake")]
    for nothing_known in (["x"], []):
        answer = recommend_for_session(shop, nothing_known, 3)
        assert shown(answer) == [
            ("rake again", "popular", None),
            ("spade", "popular", None),
            ("saucer", "typical", None),
        ]


@pytest.mark.parametrize(
    "hostile", ["' OR 1=1 --", '"; DROP TABLE product; --', "mug\0", "\udcff", "\x1b[2J", "?", "%", "", "x" * 100_000]
)
def test_hostile_ids_are_unknown_ids(shop: ServingIndex, hostile: str) -> None:
    answer = recommend_for_session(shop, [hostile, "mug"], 1)
    assert answer.unknown_ids == (hostile,) and shown(answer) == [("cup", "similar", "mug")]


def test_only_the_newest_distinct_ids_count(shop: ServingIndex) -> None:
    many = ["mug", *(f"x{number}" for number in range(999)), "rake", "rake"]
    answer = recommend_for_session(shop, many, 1)
    assert answer.n_ignored == 1001 - MAX_RECENT
    assert answer.recent == (("rake", "title of rake"),) and len(answer.unknown_ids) == MAX_RECENT - 1


@pytest.mark.parametrize("n", [0, -1, 101])
def test_a_length_out_of_range_is_refused(shop: ServingIndex, n: int) -> None:
    with pytest.raises(OptionError, match=f"n={n} is not a length from 1 to 100"):
        recommend_for_session(shop, ["mug"], n)


def test_a_product_that_stands_in_the_catalogue_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"twice \(UNIQUE constraint failed: product.product_id"):
        write_index(tmp_path, [*SHOP, Item("mug", "t9")], [], {})


ids = st.sampled_from([f"p{number}" for number in range(30)])
shops = st.fixed_dictionaries(
    {
        "items": st.lists(
            st.builds(
                Item,
                product_id=ids,
                text=st.one_of(st.none(), st.sampled_from("abcdefghijklmnop")),
                cluster=st.one_of(st.none(), st.integers(0, 3)),
                distance=st.sampled_from([0.1, 0.2, 0.3]),
                sold_out=st.booleans(),
            ),
            min_size=1,
            max_size=30,
            unique_by=lambda item: item.product_id,
        ),
        "similar": st.lists(
            st.tuples(ids, ids, st.floats(0.0078125, 1, width=32)), max_size=60, unique_by=lambda row: row[:2]
        ),
        "popular": st.dictionaries(
            st.sampled_from(["all", "cluster:0", "cluster:1", "cluster:3"]), st.lists(ids, max_size=6, unique=True)
        ),
    }
)


@settings(max_examples=60, deadline=None)
@given(shops, st.lists(ids, max_size=8), st.integers(1, 40), st.randoms(use_true_random=False))
def test_whatever_the_shop_a_list_keeps_its_promises(
    tmp_path_factory: pytest.TempPathFactory, drawn: dict[str, Any], recent: list[str], n: int, random: Any
) -> None:
    known = {item.product_id: item for item in drawn["items"]}
    similar = [row for row in drawn["similar"] if row[0] != row[1] and row[0] in known and row[1] in known]
    popular = {scope: [one for one in listed if one in known] for scope, listed in drawn["popular"].items()}
    folder = tmp_path_factory.mktemp("index")
    with write_index(folder, drawn["items"], similar, popular) as index:
        answer = recommend_for_session(index, recent, n)
    listed = [item.product_id for item in answer.items]

    def text(product_id: str) -> object:
        return known[product_id].text or (product_id,)

    seen = {text(one) for one in recent if one in known}
    possible = {text(item.product_id) for item in drawn["items"] if not item.sold_out and item.product_id not in recent}
    assert not set(listed) & set(recent)
    assert len({text(one) for one in listed}) == len(listed) == min(n, len(possible - seen))
    assert not {text(one) for one in listed} & seen
    assert not [one for one in listed if known[one].sold_out]
    scores = [item.score for item in answer.items]
    assert scores == sorted(scores, reverse=True)
    assert {item.because_id for item in answer.items} <= {*recent, None}
    # The order of rows in the tables, and so of files and partitions, means nothing.
    shuffled = random.sample(drawn["items"], len(drawn["items"]))
    with write_index(folder, shuffled, random.sample(similar, len(similar)), popular) as index:
        assert recommend_for_session(index, recent, n) == answer


def test_threads_share_an_index(shop: ServingIndex) -> None:
    questions = [["mug"], ["rake"], ["mug", "rake"], ["x"], []] * 200
    expected = [recommend_for_session(shop, question, 5) for question in questions]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda question: recommend_for_session(shop, question, 5), questions)) == expected


def product(number: int, text: int, cluster: int | None = None) -> Product:
    return Product(number, f"p{number}", None, None, None, None, None, None, text, cluster, 0)


def similar(number: int, score: float, text: int | None = None, sellable: bool = True) -> SimilarProduct:
    return SimilarProduct(number, number if text is None else text, sellable, score, 0.0, 0.0)


A, B, C = product(1, text=1), product(2, text=2), product(3, text=3)
TWIN, SOLD_OUT = similar(13, 0.7, text=2), similar(14, 0.9, sellable=False)


def test_a_session_adds_up_and_never_repeats() -> None:
    rows = {
        1: [similar(11, 0.5)],
        2: [
            similar(11, 0.5),
            similar(1, 1.0),
            similar(12, 0.8),
            similar(13, 0.7, text=2),
            similar(14, 0.9, sellable=False),
        ],
        3: [similar(15, 1.0)],
    }
    # B is the newest: 11 scores 0.5 * 0.8 + 0.5, 12 0.8; one is B's exact twin.
    expected = [(11, 11, 0.9, "similar", 2), (12, 12, 0.8, "similar", 2)]
    assert most_similar(rows, [A, B], 5) == expected
    assert most_similar(dict(reversed(rows.items())), [A, B], 1) == expected[:1]
    assert most_similar(rows, [], 5) == []


def test_what_speaks_most_for_a_product_is_weighted_by_its_place_in_the_session() -> None:
    # 0.9 two steps back is 0.576: less than 0.6 of the newest. At a tie the newer one is named.
    rows = {1: [similar(11, 0.9)], 2: [similar(12, 0.5)], 3: [similar(11, 0.6), similar(12, 0.4)]}
    suggestions = most_similar(rows, [A, B, C], 5)
    assert [(one.number, one.because, one.score) for one in suggestions] == [(11, 3, 1.176), (12, 3, 0.8)]


def test_of_equal_scores_the_more_popular_product_comes_first() -> None:
    assert [one.number for one in most_similar({1: [similar(9, 0.5), similar(8, 0.5)]}, [A], 5)] == [8, 9]


def test_a_list_is_filled_with_what_is_popular_in_the_clusters_then_in_the_store_then_typical() -> None:
    fillers = [
        Filler(None, 1, 21, 21, True),
        Filler(None, 2, 22, 22, False),
        Filler(7, 1, 31, 31, True),
        Filler(7, 2, 32, 32, False),
        Filler(9, 1, 41, 41, True),
        Filler(9, 2, 42, 2, True),
        Filler(9, 3, 31, 31, True),
    ]
    # Products 3 and 1 are of cluster 7 (1 + 0.64), 2 of cluster 9 (0.8): cluster 7 begins, and its newest speaks.
    recent = [product(1, 1, cluster=7), product(2, 2, cluster=9), product(3, 3, cluster=7)]
    listed = most_similar({3: [similar(41, 0.5)]}, recent, 9)
    suggestions = fill_up(fillers, recent, listed, 9)
    assert [(one.number, one.score, one.strategy, one.because) for one in suggestions] == [
        (31, 0.0, "popular_in_cluster", 3),
        (21, 0.0, "popular", None),
        (32, 0.0, "typical_of_cluster", 3),
        (22, 0.0, "typical", None),
    ]
    assert fill_up(fillers[::-1], recent, listed, 2) == suggestions[:2]


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Ask as `make recommend` does; returns exit status, output and errors."""
    (tmp_path / "stores").mkdir()
    (tmp_path / "stores" / "shop.yaml").write_text(
        "{store: shop, title: S, catalog: {kind: snapshot, source: {path: x}, fields: {product_id: a, title: b}}}"
    )
    monkeypatch.setenv("ARTIFACT_ROOT", str(tmp_path / "artifacts"))
    monkeypatch.setenv("SHELFKIN_STORES_DIR", str(tmp_path / "stores"))

    def ask(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["shelfkin", "recommend", "--store", "shop", *words])
        status = command.main()
        return status, *capsys.readouterr()

    return ask


def test_the_command_prints_a_list_and_its_time_and_nothing_that_steers_a_terminal(asked: Any, tmp_path: Path) -> None:
    rows = stamped_rows(1)
    rows[tables.PRODUCTS][1]["title"] = "cheap \x1b[2J\u202e mug\u2028\x07"
    for product in rows[tables.PRODUCTS]:
        product["text_hash"] = product["product_id"]
    paths, uris = write_run(tmp_path / "artifacts", rows)
    publish_run(paths, uris, publish=True)
    status, out, err = asked("--recent", "p000000, \x1b]0;owned\x07', p000000")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "Warning: ]0;owned' is not in the catalogue as of 2024-06-01; it was left out."
    assert lines[4] == f"   1  {'cheap [2J mug':<60} [p000001]  similar, because of title 1"
    assert lines[-1].startswith("10 products in ") and lines[-1].endswith(" ms")
    assert not [character for character in out if character < " " and character != "\n"]


def test_the_command_says_how_many_ids_count_and_what_is_popular_otherwise(asked: Any, tmp_path: Path) -> None:
    paths, uris = write_run(tmp_path / "artifacts", stamped_rows(1))
    publish_run(paths, uris, publish=True)
    status, out, _ = asked("--recent", ",".join(f"x{number}" for number in range(1000)), "--n", "2")
    assert status == 0
    assert out.startswith("Warning: only the newest 50 ids count; 950 older ones were left out.\n")
    assert "None of these ids is known to store shop" in out and "[p000000]  popular in the store" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--recent", ""), "No product ids were given. Next step: Write RECENT="),
        (("--recent", " , ,"), "No product ids were given."),
        (("--recent", "p1"), "Nothing has been published for store shop under"),
    ],
)
def test_the_command_refuses_with_the_next_step(asked: Any, words: tuple[str, ...], message: str) -> None:
    status, out, err = asked(*words)
    assert (status, out) == (2, "") and message in err and "Next step: " in err
