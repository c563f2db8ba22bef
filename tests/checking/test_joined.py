"""Events that hardly name a product of the catalogue."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from finished_run import stamped_rows, write_run
from shelfkin import tables
from shelfkin.artifacts import Manifest
from shelfkin.checking.joined import check_joined
from shelfkin.errors import DataQualityError


def manifests(folder: Path, catalogue: list[str], events: list[str]) -> tuple[Manifest, Manifest]:
    rows = stamped_rows(1)
    rows[tables.PRODUCTS] = [{"product_id": product_id, "title": "t"} for product_id in catalogue]
    moment = datetime(2024, 5, 1, tzinfo=UTC)
    rows[tables.EVENTS] = [
        {"product_id": product_id, "event_type": "purchase", "occurred_at": moment, "quantity": 1.0}
        for product_id in events
    ]
    paths, _ = write_run(folder, rows)
    catalog, log = (Manifest.read(paths.root, paths.manifest_uri(f"clean_{name}")) for name in ("catalog", "events"))
    return catalog, log


def test_the_share_counts_events_and_not_products(tmp_path: Path) -> None:
    catalog, events = manifests(tmp_path, ["a", "b"], ["a", "a", "a", "x"])
    assert check_joined(catalog, events, 0.75) == 0.75
    with pytest.raises(DataQualityError, match=r"3 of 4 events name a product of the catalogue.*asks for 80%"):
        check_joined(catalog, events, 0.8)


def test_no_events_is_no_failure(tmp_path: Path) -> None:
    assert check_joined(*manifests(tmp_path, ["a"], []), 0.5) is None


@pytest.mark.parametrize(
    ("catalogue", "events", "cause"),
    [
        (["00017", "00018"], ["17", "18"], "leading zeros"),
        (["ab-1", "ab-2"], ["AB-1", "AB-2"], "case"),
        (["17", "18"], ["17.0", "18.0"], "strip_suffix: '.0'"),
        (["17", "18"], ["sku_17", "sku_18"], "begins with 'sku_'"),
        (["red", "blue"], ["77", "99"], "Compare events.fields.product_id"),
    ],
)
def test_the_likely_cause_is_named_with_two_ids_of_each_side(
    tmp_path: Path, catalogue: list[str], events: list[str], cause: str
) -> None:
    with pytest.raises(DataQualityError) as caught:
        check_joined(*manifests(tmp_path, catalogue, events), 0.1)
    assert cause in (caught.value.next_step or "")
    for product_id in (*catalogue, *events):
        assert repr(product_id) in caught.value.message
