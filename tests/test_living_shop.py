"""The living shop's files: a year that today lies in, catalogues that grow, and a revision that renames a shelf."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shelfkin import living_shop
from shelfkin.errors import OptionError
from shelfkin.living_shop import RENAMED, materialise, rename_shelf

TODAY = date(2031, 3, 4)  # a Tuesday


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """Three products, each first sold on another day of 2017, to a household that is taken and one that isn't."""
    sold = [datetime(2017, 1, 1, 12), datetime(2017, 7, 3, 23, 59), datetime(2017, 12, 31, 9)]
    rows = [
        {"household_id": household, "product_id": number, "basket_id": 1, "quantity": 1, "transaction_timestamp": at}
        for household in (5, 7)
        for number, at in enumerate(sold, start=1)
    ]
    products = [{"product_id": n, "product_category": RENAMED[0] if n == 1 else "BEEF"} for n in (1, 2, 3, 4)]
    (tmp_path / "origin").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "origin" / "transactions.parquet")
    pq.write_table(pa.Table.from_pylist(products), tmp_path / "origin" / "products.parquet")
    return tmp_path / "origin"


def catalogue(folder: Path, day: date, revision: int = 1) -> dict[int, str]:
    rows = pq.read_table(folder / f"products-{day}-r{revision}.parquet").to_pylist()
    return {row["product_id"]: row["product_category"] for row in rows}


def test_today_lies_in_the_middle_and_weekdays_stay(tmp_path: Path, origin: Path) -> None:
    year = materialise(tmp_path / "shop", origin, TODAY)
    assert year.moved(date(2017, 7, 2)) <= TODAY < year.moved(date(2017, 7, 9))
    assert year.moved(date(2017, 7, 4)).weekday() == date(2017, 7, 4).weekday()
    events = pq.read_table(tmp_path / "shop" / "events.parquet").to_pylist()
    assert {event["household_id"] for event in events} == {5}
    assert max(event["transaction_timestamp"] for event in events).date() == year.last_day


def test_a_product_is_in_the_catalogue_from_the_day_on_which_it_is_first_sold(tmp_path: Path, origin: Path) -> None:
    year = materialise(tmp_path / "shop", origin, TODAY)
    second = year.moved(date(2017, 7, 3))
    assert list(catalogue(tmp_path / "shop", second - timedelta(days=1))) == [1]
    assert list(catalogue(tmp_path / "shop", second)) == [1, 2]
    # Never sold to these households, never there.
    assert list(catalogue(tmp_path / "shop", year.last_day)) == [1, 2, 3]


def test_the_year_is_chosen_once(tmp_path: Path, origin: Path) -> None:
    year = materialise(tmp_path / "shop", origin, TODAY)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "shop").iterdir()}
    assert materialise(tmp_path / "shop", origin, TODAY + timedelta(days=90)) == year
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "shop").iterdir()} == before


def test_a_revision_renames_a_shelf_from_a_day_on(tmp_path: Path, origin: Path) -> None:
    shop = tmp_path / "shop"
    year = materialise(shop, origin, TODAY)
    assert rename_shelf(shop, TODAY) == (TODAY, 1)
    assert catalogue(shop, TODAY, 2)[1] == RENAMED[1] and catalogue(shop, TODAY, 1)[1] == RENAMED[0]
    assert catalogue(shop, year.last_day, 2) == {1: RENAMED[1], 2: "BEEF", 3: "BEEF"}
    assert not (shop / f"products-{TODAY - timedelta(days=1)}-r2.parquet").exists()
    with pytest.raises(OptionError, match="ended on"):
        rename_shelf(shop, year.last_day + timedelta(days=1))


def test_the_shipped_profile_finds_its_files() -> None:
    from shelfkin.settings import Settings

    profile = Settings.from_env({}).profile(living_shop.STORE)
    assert profile.materialise == living_shop.STORE and profile.schedule
    assert profile.catalog.source is not None and profile.catalog.source.is_dated
