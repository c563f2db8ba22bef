"""Stock: words of many languages, and numbers of pieces."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from shelfkin.values import stock
from shelfkin.values.stock import parse_in_stock
from values.reading import read

STOCK = {
    "0": False,
    "3": True,
    "-2": False,
    "0,00": False,
    "0.000": False,
    "2,50": True,
    "1.000,00": True,
    "1 200": True,
    "> 10": True,
    "10+": True,
    "<5": True,
    "4 Stück": True,
    "0 pcs": False,
    "5 шт.": True,
    "In Stock": True,
    "IN_STOCK": True,
    "out-of-stock": False,
    "https://schema.org/OutOfStock": False,
    "http://schema.org/InStock": True,
    "Auf Lager": True,
    "Nicht auf Lager": False,
    "AUSVERKAUFT": False,
    "épuisé": False,
    "En stock": True,
    "agotado": False,
    "esaurito": False,
    "Op voorraad": True,
    "нет в наличии": False,
    "В наличии": True,
    "有货": True,
    "在庫切れ": False,
    "maybe": None,
    "tomorrow": None,
}


@pytest.mark.spark
def test_stock_as_people_write_it(spark: SparkSession) -> None:
    assert read(spark, list(STOCK), parse_in_stock) == STOCK


def test_no_word_means_both() -> None:
    words = tomllib.loads(Path(stock.__file__).with_name("words.toml").read_text(encoding="utf-8"))
    assert not {stock.bare(word) for word in words["in_stock"]} & {stock.bare(word) for word in words["out_of_stock"]}
