"""A shop small enough to run whole in a test, with habits that a recommender can find."""

from __future__ import annotations

import csv
import random
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

STORE = "corner_shop"
FIRST_DAY = date(2024, 1, 1)
LAST_DAY = date(2024, 6, 30)

AISLES = {
    "Coffee & Tea": ["espresso beans", "filter coffee", "green tea", "earl grey tea", "decaf coffee", "chai tea"],
    "Cheese": ["cheddar cheese", "goat cheese", "blue cheese", "brie cheese", "mozzarella cheese", "feta cheese"],
    "Cleaning": ["dish soap", "glass cleaner", "laundry detergent", "bleach spray", "floor cleaner", "scrub sponge"],
    "Bakery": ["rye bread", "baguette bread", "butter croissant", "cinnamon roll", "sourdough bread", "plain bagel"],
    "Pets": ["dry cat food", "wet cat food", "dog biscuits", "cat litter", "dog chew toy", "bird seed"],
    "Garden": ["tomato seeds", "potting soil", "plant fertiliser", "garden gloves", "watering can", "hand trowel"],
}
BRANDS = ["Alder", "Birch", "Cedar", "Dogwood"]
_CATALOG_FIELDS = {
    "product_id": "sku",
    "title": "name",
    "category_path": "aisle",
    "brand": "brand",
    "price": "price",
}


def products() -> list[dict[str, str]]:
    """144 products: 6 aisles x 6 kinds x 4 brands; two brands of a kind share their text, so twins occur."""
    rows = []
    for aisle, kinds in AISLES.items():
        for kind in kinds:
            for number, brand in enumerate(BRANDS):
                rows.append(
                    {
                        "sku": f"S{len(rows) + 1:03d}",
                        "name": f"{BRANDS[number // 2 * 2]} {kind}",
                        "aisle": aisle,
                        "brand": brand,
                        "price": f"{2 + len(rows) % 7}.50",
                    }
                )
    return rows


def events(seed: int = 7, n_customers: int = 60) -> list[dict[str, str]]:
    """About 4,000 order lines: every customer has two favourite aisles and buys there every week or so."""
    random_ = random.Random(seed)
    catalogue = products()
    by_aisle = {aisle: [row["sku"] for row in catalogue if row["aisle"] == aisle] for aisle in AISLES}
    rows = []
    for customer in range(n_customers):
        favourites = random_.sample(sorted(AISLES), 2)
        habits = [random_.choice(by_aisle[aisle]) for aisle in favourites for _ in range(3)]
        day = FIRST_DAY + timedelta(days=random_.randrange(10))
        while day <= LAST_DAY:
            order = f"O{customer:03d}-{day:%Y%m%d}"
            basket = {random_.choice(habits) for _ in range(3)}
            basket.add(random_.choice(by_aisle[random_.choice(favourites)]))
            moment = datetime(day.year, day.month, day.day, 9 + random_.randrange(9), random_.randrange(60))
            rows += [
                {
                    "customer": f"C{customer:03d}",
                    "sku": sku,
                    "at": moment.isoformat(sep=" "),
                    "n": str(1 + random_.randrange(3)),
                    "order": order,
                }
                for sku in sorted(basket)
            ]
            day += timedelta(days=4 + random_.randrange(6))
    return rows


def write_csv(path: Path, rows: list[dict[str, str]]) -> None:
    """Write rows with a header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def profile(**changes: Any) -> dict[str, Any]:
    """Return the shop's profile; `changes` replace top-level sections."""
    return {
        "store": STORE,
        "title": "Corner shop",
        "timezone": "UTC",
        "currency": "EUR",
        "default_as_of": "2024-06-01",
        "catalog": {
            "kind": "snapshot",
            "source": {"path": "data/products.csv"},
            "fields": _CATALOG_FIELDS,
        },
        "events": {
            "source": {"path": "data/events.csv"},
            "fields": {
                "user_id": "customer",
                "product_id": "sku",
                "occurred_at": "at",
                "quantity": "n",
                "order_id": "order",
            },
            "timestamp_format": "yyyy-MM-dd HH:mm:ss",
        },
        "embedding": {"text": "{title}|. {category_path}"},
        "clustering": {"k_min": 3, "k_max": 10},
        "recommending": {"horizon_days": 21, "list_length": 10, "ranker_windows": 2},
        **changes,
    }


def dated_catalogues() -> dict[str, Any]:
    """Return the profile's catalogue where it comes anew each day, and may be delivered again as a revision."""
    path = "data/products-{snapshot_date}-r{revision}.csv"
    return {"kind": "dated_snapshots", "source": {"path": path}, "fields": _CATALOG_FIELDS}


def write_shop(folder: Path, **changes: Any) -> Path:
    """Write profile and data below `folder`, and return the folder of profiles."""
    stores = folder / "stores"
    write_csv(stores / "data" / "products.csv", products())
    write_csv(stores / "data" / "events.csv", events())
    content = profile(**changes)
    (stores / f"{content['store']}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return stores
