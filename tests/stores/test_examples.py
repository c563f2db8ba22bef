"""Every example profile runs on small files of its platform's shape, and the right rows are kept."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from shelfkin.drafting.draft import draft_profile
from shelfkin.profile import store_names
from shelfkin.profile_file import load_profile
from stage_runs import Run
from stores.platform_files import PLATFORMS

EXAMPLES = Path(__file__).resolve().parents[2] / "include" / "stores" / "examples"

# By platform: products by id, then what events must be kept, as (user, product, type, quantity).
KEPT: dict[str, tuple[dict[str, dict[str, Any]], list[tuple[str | None, str, str, float]]]] = {
    "shopify": (
        {
            "LS-S": {"title": "Linen shirt", "description": "Airy & light.", "brand": "Weaver", "price": 39.9},
            "LS-M": {"title": "Linen shirt", "description": "Airy & light.", "price": 41.9, "in_stock": False},
            "MUG": {"title": 'Mug, "big"', "brand": "Potter"},
        },
        [
            ("ann@example.com", "LS-S", "purchase", 2.0),
            ("ann@example.com", "MUG", "purchase", 1.0),
            ("bob@example.com", "LS-M", "purchase", 1.0),
        ],
    ),
    "woocommerce": (
        {
            "11": {"title": "Hoodie - Red", "category_path": ["Clothing", "Hoodies"], "price": 42.0},
            "12": {"title": "Hoodie - Blue", "description": "Warm. Soft.", "price": 45.0, "in_stock": False},
            "13": {"title": "Cap", "price": 16.5, "in_stock": True},
        },
        [
            ("7", "11", "purchase", 1.0),
            ("7", "13", "purchase", 2.0),
            ("8", "12", "purchase", 1.0),
            (None, "13", "purchase", 1.0),
        ],
    ),
    "google_merchant_xml": (
        {
            "K-1": {"title": "Kettle & base", "description": "Boils fast", "price": 24.9, "in_stock": True},
            "K-2": {"category_path": ["Home & Garden", "Kitchen"], "price": 19.0, "in_stock": False},
        },
        [],
    ),
    "google_merchant_tsv": (
        {
            "K-1": {"category_path": ["Kitchen", "Kettles"], "price": 24.9, "currency": "EUR"},
            "K-2": {"category_path": ["Home & Garden", "Kitchen"], "price": 19.0, "in_stock": False},
        },
        [],
    ),
    "ga4": (
        {
            "GGOE1": {
                "title": "Google Mug GGOE1",
                "brand": None,
                "category_path": ["Home", "Drinkware"],
                "price": 12.5,
            },
            "GGOE2": {"title": "Google Mug GGOE2"},
        },
        [("1001.55", "GGOE1", "view", 1.0), ("u7", "GGOE1", "purchase", 2.0), ("u7", "GGOE2", "purchase", 1.0)],
    ),
    "rees46": (
        {
            "1003461": {"title": "xiaomi smartphone", "category_path": ["electronics", "smartphone"], "price": 489.07},
            "26500543": {"title": "Product 26500543", "category_path": None},
        },
        [
            ("520088904", "1003461", "cart", 1.0),
            ("520088904", "1003461", "purchase", 1.0),
            ("520088904", "1003461", "view", 1.0),
            ("518957665", "26500543", "view", 1.0),
        ],
    ),
    "retailrocket": (
        {
            "461686": {"category_path": ["category 7", "category 1300"], "in_stock": True},
            "206783": {"title": "Item 206783", "category_path": ["category 9"]},
        },
        [
            ("257597", "461686", "cart", 1.0),
            ("257597", "461686", "purchase", 1.0),
            ("257597", "461686", "view", 1.0),
            ("951259", "206783", "view", 1.0),
        ],
    ),
    "hm": (
        {
            "0108775015": {"title": "Strap top, Black", "category_path": ["Ladieswear", "Jersey Basic", "Vest top"]},
            "0108775044": {"title": "Strap top, White"},
        },
        [("c1", "0108775015", "purchase", 1.0), ("c1", "0108775044", "purchase", 1.0)],
    ),
    "olist": (
        {
            "p1": {"title": "perfume shop, 225 g", "price": 58.9, "currency": "BRL"},
            "p2": {"title": "other, 1000 g", "category_path": ["other"]},
        },
        [("u1", "p1", "purchase", 2.0), ("u1", "p2", "purchase", 1.0)],
    ),
}


# A date soon after each one's events.
AS_OF = {"rees46": "2019-12-01", "retailrocket": "2015-06-10", "hm": "2018-10-01", "olist": "2017-10-10"}


def run_store(stores: Path, store: str, folder: Path) -> Run:
    run = Run(stores, folder / "artifacts", store, AS_OF.get(store, "2024-05-06"))
    for stage in ("clean_catalog", "clean_events"):
        run.stage(stage, "--data-dir", str(folder / "data"))
    return run


@pytest.mark.spark
@pytest.mark.parametrize("platform", PLATFORMS)
def test_an_example_keeps_the_right_rows(spark: SparkSession, tmp_path: Path, platform: str) -> None:
    PLATFORMS[platform](tmp_path / "data")
    stores = tmp_path / "stores"
    stores.mkdir()
    shutil.copy(EXAMPLES / f"{platform}.yaml", stores)
    run = run_store(stores, platform, tmp_path)
    products, events = KEPT[platform]
    found = {row["product_id"]: row for row in run.records("clean_catalog", "products")}
    assert sorted(found) == sorted(products)
    for product, wanted in products.items():
        assert {column: found[product][column] for column in wanted} == wanted
    kept = [
        tuple(row[name] for name in ("user_id", "product_id", "event_type", "quantity"))
        for row in run.records("clean_events", "events")
    ]
    assert sorted(kept, key=str) == sorted(events, key=str)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_draft_of_a_known_export_is_its_example(tmp_path: Path, platform: str) -> None:
    PLATFORMS[platform](tmp_path)
    files = [str(path) for path in sorted(tmp_path.rglob("*")) if path.is_file() and "events.jsonl" not in path.name]
    text = draft_profile("made", files, tmp_path / "stores", force=False).read_text(encoding="utf-8")
    assert f"they have the columns of the example {platform}." in text
    assert "SHELFKIN_DATA" not in text


@pytest.mark.spark
def test_the_json_lines_of_ga4_run_as_well(spark: SparkSession, tmp_path: Path) -> None:
    PLATFORMS["ga4"](tmp_path / "data")
    file = tmp_path / "data" / "ga4" / "events.jsonl"
    assert "format: jsonl" in draft_profile("made", [str(file)], tmp_path / "stores", force=False).read_text()
    run = run_store(tmp_path / "stores", "made", tmp_path)
    assert len(run.records("clean_events", "events")) == len(KEPT["ga4"][1])


def test_examples_are_no_stores() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.yaml")}
    assert names == set(PLATFORMS)
    assert not names & set(store_names(EXAMPLES.parent))


@pytest.mark.parametrize("platform", PLATFORMS)
def test_examples_are_valid_profiles(platform: str) -> None:
    assert load_profile(EXAMPLES / f"{platform}.yaml").store == platform
