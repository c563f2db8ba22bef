"""The raw files of the living shop: a fifth of Complete Journey's households, in a year that today lies in.

Dates move by whole weeks, so that weekdays stay. A catalogue is delivered every day, and a product is in it from the
day on which it is first sold. What is dated later than today lies there already; no run reads it before its day.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shelfkin.artifacts import Root
from shelfkin.errors import OptionError

STORE = "living_shop"
# Half of the year has been when the shop opens, half is to come.
_OPENED_ON = date(2017, 7, 2)
_LAST_DAY = date(2017, 12, 31)
# One household of so many: a day's run stays short, and more than the 200 that the gate judges by are left.
_ONE_OF = 5
# Days before the opening that have a catalogue, so that there is something to backfill.
_EARLIER_CATALOGUES = 28
# Days before today from which on the revision renames a shelf.
_RENAMED_SINCE = 2
RENAMED = ("FRZN MEAT/MEAT DINNERS", "FROZEN READY MEALS")


@dataclass(frozen=True)
class Year:
    """The shop's year: how many weeks it was moved by, and the days that have a catalogue."""

    weeks: int

    @property
    def first_catalogue(self) -> date:
        """Date of the first catalogue."""
        return self.moved(_OPENED_ON) - timedelta(days=_EARLIER_CATALOGUES)

    @property
    def last_day(self) -> date:
        """The last day on which something was sold."""
        return self.moved(_LAST_DAY)

    def moved(self, day: date) -> date:
        """Return a day of 2017 in this year."""
        return day + timedelta(weeks=self.weeks)

    def catalogues_from(self, day: date) -> list[date]:
        """Return the days from `day` on that have a catalogue."""
        first = max(day, self.first_catalogue)
        return [first + timedelta(days=n) for n in range((self.last_day - first).days + 1)]


def materialise(folder: Path, origin: Path, today: date | None = None) -> Year:
    """Write events and catalogues to `folder`, unless they are there; the year is chosen once and stays.

    Parameters
    ----------
    folder
        Of this shop's raw files.
    origin
        With Complete Journey's files (`demo_data.materialise`).
    """
    root = Root.at(str(folder))
    today = today or datetime.now(UTC).date()
    # Two tasks begin at the same time: the first one's year holds for both.
    root.put_json_if_absent(root.join("year.json"), {"weeks": (today - _OPENED_ON).days // 7})
    year = read_year(folder)
    events_uri = root.join("events.parquet")
    if not root.exists(events_uri):
        events = _events(origin, year)
        products = _products(origin, events)
        for day in year.catalogues_from(year.first_catalogue):
            _put(root, _catalogue(day, 1), _known(products, day))
        # Last: what makes the next call leave everything alone.
        _put(root, events_uri, events)
    return year


def read_year(folder: Path) -> Year:
    """Return the year that was chosen for `folder`."""
    root = Root.at(str(folder))
    return Year(int(root.read_json(root.join("year.json"))["weeks"]))


def rename_shelf(folder: Path, since: date | None = None) -> tuple[date, int]:
    """Deliver the catalogues from a day on again, as revision 2, in which one shelf has its name spelt out.

    Parameters
    ----------
    since
        Date of the first revised catalogue; default: the day before yesterday, which yesterday's run was the first to
        read.

    Returns
    -------
    since, n_products
        How many products of the last catalogue have another shelf now.

    Raises
    ------
    OptionError
        No catalogue is of that day or later.
    """
    root, year = Root.at(str(folder)), read_year(folder)
    days = year.catalogues_from(since or datetime.now(UTC).date() - timedelta(days=_RENAMED_SINCE))
    if not days:
        raise OptionError(
            f"The shop's year ended on {year.last_day}.", next_step=f"Remove {folder}, and let the shop open again."
        )
    n_products = 0
    for day in days:
        products = pq.read_table(io.BytesIO(root.read_bytes(root.join(_catalogue(day, 1)))))
        shelf = products["product_category"]
        is_renamed = pc.equal(shelf, RENAMED[0])
        n_products = pc.sum(is_renamed).as_py() or 0
        position = products.schema.get_field_index("product_category")
        products = products.set_column(position, "product_category", pc.if_else(is_renamed, RENAMED[1], shelf))
        _put(root, _catalogue(day, 2), products)
    return days[0], n_products


def _events(origin: Path, year: Year) -> pa.Table:
    table = pq.read_table(origin / "transactions.parquet")
    household = table["household_id"]
    table = table.filter(pc.equal(pc.multiply(pc.divide(household, _ONE_OF), _ONE_OF), household))
    moved = pc.add(table["transaction_timestamp"], pa.scalar(timedelta(weeks=year.weeks)))
    moved = moved.cast(pa.timestamp("us"))
    return table.set_column(table.schema.get_field_index("transaction_timestamp"), "transaction_timestamp", moved)


def _products(origin: Path, events: pa.Table) -> pa.Table:
    """Return the products that are ever sold, with the day of the first sale, in its order."""
    first = events.group_by("product_id").aggregate([("transaction_timestamp", "min")])
    first_sold = first["transaction_timestamp_min"].cast(pa.date32(), safe=False)
    first = pa.table({"product_id": first["product_id"], "first_sold": first_sold})
    products = pq.read_table(origin / "products.parquet").join(first, "product_id", join_type="inner")
    return products.sort_by([("first_sold", "ascending"), ("product_id", "ascending")])


def _known(products: pa.Table, day: date) -> pa.Table:
    return products.filter(pc.less_equal(products["first_sold"], pa.scalar(day))).drop_columns("first_sold")


def _catalogue(day: date, revision: int) -> str:
    return f"products-{day}-r{revision}.parquet"


def _put(root: Root, name: str, table: pa.Table) -> None:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", store_schema=False)
    root.put_bytes(root.join(name), buffer.getvalue())
