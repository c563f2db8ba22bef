"""Cluster ids along as_of."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest

from shelfkin.clustering import identity
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
        found=found,
        names={**names, **found.kept_names},
        sizes=dict.fromkeys(found.ids, 7),
        predecessor=predecessor,
    )


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
    assert found.gone == ({"cluster_id": 152790001, "name": "name 152790001", "status": "merged", "into": 152790000},)


def test_a_name_goes_when_the_content_moved() -> None:
    moved = np.array([[0.93, 0.3676, 0]])  # cosine 0.93: the same cluster, with other content
    found = identity.identify(moved, DAY + timedelta(days=1), MODEL, written(np.eye(3)[:1]))
    assert found.ids == (152790000,)
    assert found.kept_names == {}


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


def test_an_unknown_lineage_format_is_refused() -> None:
    with pytest.raises(ArtifactError, match="format_version 99"):
        identity.identify(np.eye(3), DAY, MODEL, {**written(np.eye(3)), "format_version": 99})
