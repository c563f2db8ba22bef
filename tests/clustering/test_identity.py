"""Cluster ids along as_of."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest

from shelfkin.clustering import identity, kmeans
from shelfkin.clustering.lloyd import Points
from shelfkin.clustering.members import Members
from shelfkin.clustering.vectors import unit_vectors
from shelfkin.errors import ArtifactError

DAY = date(2011, 11, 1)
MODEL = "local/minilm/3"


def written(centroids: np.ndarray, day: date = DAY, predecessor: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the lineage of a day with these centroids."""
    found = identity.identify(centroids, day, MODEL, predecessor)
    names = {cluster: f"name {cluster}" for cluster in found.ids}
    return identity.lineage(
        day=day,
        run_id="r",
        model=MODEL,
        centroids=centroids,
        identities=found,
        names={**names, **found.kept_names},
        sizes=dict.fromkeys(found.ids, 7),
        predecessor=predecessor,
    )


def members(common: np.ndarray) -> Members:
    """Return counts of products that are in the catalogue on both days."""
    n_old, n_new = common.shape
    return Members(common, np.zeros(n_old, dtype=np.int64), np.zeros(n_new, dtype=np.int64))


def test_first_run_numbers_clusters_by_day_and_size() -> None:
    found = identity.identify(np.eye(3), DAY, MODEL, None)
    assert found.ids == (152790000, 152790001, 152790002)
    assert found.statuses == ("born",) * 3


def test_ids_follow_the_content_not_the_order() -> None:
    before = written(np.eye(3))
    moved = np.array([[0, 0, 1], [0.1, 0.995, 0], [1, 0, 0]])
    found = identity.identify(moved, DAY + timedelta(days=1), MODEL, before)
    assert found.ids == (152790002, 152790001, 152790000)
    assert set(found.statuses) == {"kept"}
    assert found.kept_names == {cluster: f"name {cluster}" for cluster in found.ids}


def test_a_new_cluster_is_born_and_a_lost_one_retires() -> None:
    before = written(np.eye(3))
    now = np.array([[1, 0, 0], [0, 0.7071, 0.7071]])
    found = identity.identify(now, DAY + timedelta(days=1), MODEL, before)
    assert found.ids == (152790000, 152800001)
    assert found.statuses == ("kept", "born")
    assert [(cluster["cluster_id"], cluster["status"]) for cluster in found.gone] == [
        (152790001, "retired"),
        (152790002, "retired"),
    ]


def test_two_that_become_one_are_merged_into_the_id_that_goes_on() -> None:
    close = np.array([[1, 0, 0], [0.95, 0.3122, 0], [0, 0, 1]])
    found = identity.identify(close[[0, 2]], DAY + timedelta(days=1), MODEL, written(close))
    assert found.gone == (
        {"cluster_id": 152790001, "name": "name 152790001", "size": 7, "status": "merged", "into": 152790000},
    )


def test_a_name_goes_when_the_content_moved() -> None:
    moved = np.array([[0.93, 0.3676, 0]])  # cosine 0.93: the same cluster, with other content
    found = identity.identify(moved, DAY + timedelta(days=1), MODEL, written(np.eye(3)[:1]))
    assert found.ids == (152790000,)
    assert found.kept_names == {}


def turned(degrees: float) -> np.ndarray:
    angle = np.deg2rad(degrees)
    return np.array([[np.cos(angle), np.sin(angle), 0]])


def test_a_name_goes_when_many_small_moves_add_up() -> None:
    # 5 degrees a day are a cosine of 0.996 from day to day; 0.95 is 18 degrees from where the name was made.
    day, before, kept = DAY, written(turned(0)), []
    for number in range(1, 9):
        day += timedelta(days=1)
        found = identity.identify(turned(5 * number), day, MODEL, before)
        assert found.statuses == ("kept",)
        kept.append(bool(found.kept_names))
        names = {found.ids[0]: found.kept_names.get(found.ids[0], f"made on day {number}")}
        before = identity.lineage(
            day=day,
            run_id="r",
            model=MODEL,
            centroids=turned(5 * number),
            identities=found,
            names=names,
            sizes={},
            predecessor=before,
        )
    assert kept == [True, True, True, False, True, True, True, False]


def test_ids_of_rewritten_days_never_collide() -> None:
    first = written(np.eye(3))
    third = written(np.roll(np.eye(3), 1, axis=0) * -1, DAY + timedelta(days=2), first)
    # The second day is run after the third, from the first.
    second = written(np.eye(3) * -1, DAY + timedelta(days=1), first)
    ids = [cluster["cluster_id"] for day in (first, second, third) for cluster in day["clusters"]]
    assert len(set(ids)) == len(ids)
    assert written(np.eye(3) * -1, DAY + timedelta(days=1), first) == second


def test_another_model_starts_anew_and_says_so() -> None:
    found = identity.identify(np.eye(3), DAY + timedelta(days=1), "openai/large/3", written(np.eye(3)))
    assert found.statuses == ("born",) * 3
    assert len(found.gone) == 3
    assert "embedding model changed since 2011-11-01" in found.note


def test_another_model_is_compared_by_products_where_they_are_known() -> None:
    before = written(np.eye(3))
    common = np.array([[0, 9, 0], [8, 1, 0], [0, 0, 0]])
    found = identity.identify(
        np.eye(2, 5)[[0, 1, 1]], DAY + timedelta(days=1), "openai/large/5", before, members(common)
    )
    assert found.ids == (152790001, 152790000, 152800002)
    assert found.note == "the embedding model changed since 2011-11-01: compared by products only"
    assert set(found.kept_names) == {152790000, 152790001}


def born(centroids: np.ndarray, common: list[list[int]]) -> identity.Identities:
    """Return the identities a day after the three unit vectors."""
    return identity.identify(centroids, DAY + timedelta(days=1), MODEL, written(np.eye(3)), members(np.array(common)))


FOUR = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.8, 0.6, 0]])


def test_a_split_names_its_origin_and_counts_what_came_from_there() -> None:
    found = born(FOUR, [[60, 0, 0, 30], [0, 50, 0, 8], [0, 0, 40, 2]])
    assert found.statuses == ("kept", "kept", "kept", "born")
    assert found.splits == {152800003: {"split_from": 152790000, "n_common": 40, "n_from": 30}}
    assert [found.split_from(cluster) for cluster in found.ids] == [None, None, None, 152790000]
    assert found.metrics()["clusters_split"] == 1
    # A third of the first cluster left: its name no longer says what is in it.
    assert set(found.kept_names) == {152790000, 152790001, 152790002}
    assert set(born(FOUR, [[59, 0, 0, 30], [0, 50, 0, 0], [0, 0, 40, 0]]).kept_names) == {152790001, 152790002}


@pytest.mark.parametrize(
    "common",
    [
        [[60, 0, 0, 15], [0, 50, 0, 10], [0, 0, 40, 5]],  # half of it at most from one cluster
        [[60, 0, 0, 0], [0, 50, 0, 0], [0, 0, 40, 0]],  # nothing but new products
    ],
)
def test_a_cluster_of_many_or_of_no_origins_is_just_born(common: list[list[int]]) -> None:
    found = born(FOUR, common)
    assert found.statuses[3] == "born"
    assert found.splits == {}


def test_what_came_from_a_cluster_that_died_is_no_split() -> None:
    # The third old cluster fell apart; the pieces were made from it, but it doesn't live on beside them.
    now = np.array([[1, 0, 0], [0, 1, 0], [0.6, 0, 0.8], [0, 0.6, 0.8]])
    found = born(now, [[60, 0, 0, 0], [0, 50, 0, 0], [0, 0, 19, 20]])
    assert found.ids[3] == 152790002 and found.splits == {152800002: {**SPLIT, "n_common": 19, "n_from": 19}}
    found = born(now, [[60, 0, 0, 0], [0, 50, 0, 0], [30, 0, 20, 20]])
    assert found.statuses == ("kept", "kept", "born", "born")
    assert found.splits == {}


SPLIT = {"split_from": 152790002}


def test_a_merged_cluster_counts_what_went_where() -> None:
    found = born(np.eye(3)[:2], [[60, 2], [0, 50], [18, 3]])
    assert found.statuses == ("kept", "kept")
    (gone,) = found.gone
    assert gone == {
        "cluster_id": 152790002,
        "name": "name 152790002",
        "size": 7,
        "status": "merged",
        "into": 152790000,
        "n_common": 21,
        "n_into": 18,
    }


@pytest.mark.parametrize(("went", "n_common"), [([9, 9], 18), ([0, 0], 0)])
def test_a_cluster_that_scattered_or_whose_products_left_is_retired(went: list[int], n_common: int) -> None:
    # By its centroid alone the third cluster would pass for merged into the first.
    before = written(np.array([[1, 0, 0], [0, 1, 0], [0.95, 0.3122, 0]]))
    common = np.array([[60, 0], [0, 50], went])
    found = identity.identify(np.eye(3)[:2], DAY + timedelta(days=1), MODEL, before, members(common))
    assert [(gone["cluster_id"], gone["status"], gone["n_common"]) for gone in found.gone] == [
        (152790002, "retired", n_common)
    ]
    assert found.metrics()["clusters_retired"] == 1


def test_an_older_lineage_is_read_by_centroids_and_the_note_says_why() -> None:
    old = written(np.eye(3))
    first_format = {key: old[key] for key in ("as_of", "run_id", "model", "clusters", "gone")}
    first_format |= {"format_version": 1, "predecessor": None}
    found = identity.identify(
        np.eye(3)[::-1], DAY + timedelta(days=1), MODEL, first_format, why_not="that lineage doesn't name its table"
    )
    assert found.ids == (152790002, 152790001, 152790000)
    assert found.splits is None and found.metrics()["clusters_split"] is None
    assert found.note == (
        "compared with the clusters as of 2011-11-01 by centroids only (that lineage doesn't name its table)"
    )


def test_a_stale_predecessor_is_said() -> None:
    before = {**written(np.eye(3)), "stale": {"because_of": "2011-10-30", "run_id": "r2", "since": "2011-11-05T00:00"}}
    note = identity.identify(np.eye(3), DAY + timedelta(days=1), MODEL, before, members(np.eye(3, dtype=np.int64))).note
    assert note.endswith("these are stale themselves: those as of 2011-10-30 were made after them")


def catalogue(seed: int, n_products: int = 6_000) -> np.ndarray:
    """Return unit vectors of clusters that overlap: a product's cosine to its centre is 0.7, so are many others'."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(30, 48))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    groups = random.choice(30, n_products, p=random.dirichlet(np.full(30, 4.0)))
    return unit_vectors(centres[groups] + random.normal(size=(n_products, 48)) / np.sqrt(48))


def count(before: np.ndarray, now: np.ndarray, k: int) -> np.ndarray:
    common = np.zeros((k, k), dtype=np.int64)
    np.add.at(common, (before, now), 1)
    return common


@pytest.mark.parametrize("seed", range(8))
def test_one_per_cent_of_other_products_leaves_ids_and_names_alone(seed: int) -> None:
    vectors, k = catalogue(seed), 24
    drawn = np.random.default_rng(seed).random(len(vectors))
    yesterday, today = drawn >= 0.01, (drawn < 0.01) | (drawn >= 0.02)
    first = kmeans.fit(vectors[yesterday], np.ones(yesterday.sum()), k)
    before = written(first.centroids)
    warm = identity.centroids_of(before)
    second = kmeans.fit(vectors[today], np.ones(today.sum()), k, kmeans.Options(warm_start=warm))
    labels = [Points(vectors, np.ones(len(vectors))).assign(fitted.centroids).labels for fitted in (first, second)]
    both = yesterday & today
    common = count(labels[0][both], labels[1][both], k)
    found = identity.identify(second.centroids, DAY + timedelta(days=1), MODEL, before, members(common))
    assert found.statuses == ("kept",) * k
    ids = [
        np.asarray(ids)[label[both]] for ids, label in zip((identity.ids_of(before), found.ids), labels, strict=True)
    ]
    assert (ids[0] == ids[1]).mean() >= 0.99
    assert found.kept_names == {cluster["cluster_id"]: cluster["name"] for cluster in before["clusters"]}


def test_an_unknown_lineage_format_is_refused() -> None:
    with pytest.raises(ArtifactError, match="format_version 99"):
        identity.identify(np.eye(3), DAY, MODEL, {**written(np.eye(3)), "format_version": 99})
