"""Ids: one spelling for what exports make of the same id."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.profile import IdRule
from shelfkin.values.ids import MAX_CHARS, breaks_pattern, normalised_id, too_long
from values.reading import read

pytestmark = pytest.mark.spark

SAME = {
    "SKU-7": "SKU-7",
    "sku 7": "sku 7",
    "SKU\u00a07": "SKU 7",
    "SKU-7\u200b": "SKU-7",
    "\ufeffSKU-7\u00ad": "SKU-7",
    "\u2060SKU\u200d-7\u200e": "SKU-7",
    "SKU-7\u3000": "SKU-7",
    '="00042"': "00042",
    '=" 00042 "': "00042",
    "'00042": "00042",
    "'00042'": "00042",
    "O'Neill": "O'Neill",
    '5"': '5"',
    "=A1": "=A1",
    "17.0": "17",
    "17.00": "17",
    "0.0": "0",
    "-3.0": "-3",
    "00017.0": "00017.0",  # no float has leading zeros
    "1.0.0": "1.0.0",
    "17.5": "17.5",
    "2.0000001E7": "20000001",
    "9.007199254740991E15": "9007199254740991",
    "1e+05": "100000",
    "4.5e+07": "45000000",
    "1.5E0": "1.5E0",
    "7E5": "7E5",  # an article number
    "1.2E99": "1.2E99",
    "Cafe\u0301": "Café",
    "\u1112\u1161\u11ab": "한",
    "\u212b": "Å",
    "🧦\ufe0f": "🧦",
    "A/B,C;D": "A/B,C;D",
    "''": None,
    '=""': None,
    "\u200b": None,
}


def test_ids_of_exports_spreadsheets_and_data_frames(spark: SparkSession) -> None:
    assert read(spark, list(SAME), lambda text: normalised_id(text, IdRule())) == SAME


def test_the_rule_comes_last(spark: SparkSession) -> None:
    rule = IdRule(pattern=r"\d{5}.*", case="upper", strip_suffix="-EU")
    found = read(
        spark,
        ["17850.0", "'85123a-EU", "POST", "-EU"],
        lambda text: F.struct(normalised_id(text, rule), breaks_pattern(normalised_id(text, rule), rule)),
    )
    assert {text: tuple(each) for text, each in found.items()} == {
        "17850.0": ("17850", False),
        "'85123a-EU": ("85123A", False),
        "POST": ("POST", True),
        "-EU": (None, None),
    }


def test_ids_too_long_for_a_key(spark: SparkSession) -> None:
    texts = ["x" * MAX_CHARS, "x" * (MAX_CHARS + 1)]
    assert list(read(spark, texts, lambda text: too_long(normalised_id(text, IdRule()))).values()) == [False, True]


INVISIBLE = "\u200b\u200e\ufeff\u00ad\u2060\x07"
ODD = st.sampled_from(INVISIBLE + " '\"=.0E+1")
ID = st.text(st.characters(exclude_categories=["Cs", "Cn", "Co", "Cf", "Cc"]) | ODD, min_size=1, max_size=12)


@settings(max_examples=3, deadline=None)
@given(st.lists(ID, min_size=150, max_size=150, unique=True))
def test_a_tidied_id_stays(spark: SparkSession, texts: list[str]) -> None:
    once = read(spark, texts, lambda text: normalised_id(text, IdRule()))
    tidied = sorted({text for text in once.values() if text is not None})
    assert read(spark, tidied, lambda text: normalised_id(text, IdRule())) == {text: text for text in tidied}
    for text in tidied:
        assert unicodedata.is_normalized("NFC", text)
        assert not set(text) & set(INVISIBLE)


@settings(max_examples=2, deadline=None)
@given(st.lists(st.integers(1, 10**15), min_size=40, max_size=40, unique=True))
def test_every_spelling_of_a_whole_number_is_one_id(spark: SparkSession, numbers: list[int]) -> None:
    spelled = {
        text: str(n)
        for n in numbers
        for text in (str(n), f"{n}.0", f"'{n}", f'="{n}"', f"\u200b{n} ", f"{n}.0\u00a0", java_double(n))
    }
    assert read(spark, list(spelled), lambda text: normalised_id(text, IdRule())) == spelled


def java_double(n: int) -> str:
    """Return a number as Java writes it as a double."""
    if n < 10**7:
        return f"{n}.0"
    digits = str(n).rstrip("0")
    return f"{digits[0]}.{digits[1:] or 0}E{len(str(n)) - 1}"


def test_accents_where_spark_interprets_as_in_a_check(spark: SparkSession) -> None:
    session = spark.newSession()
    session.conf.set("spark.sql.codegen.wholeStage", "false")
    session.conf.set("spark.sql.codegen.factoryMode", "NO_CODEGEN")
    found = read(
        session, ["SÄ-3", "Ka\u0308se", "1.234567E7", '="ŁAŃ/0379"'], lambda text: normalised_id(text, IdRule())
    )
    assert list(found.values()) == ["SÄ-3", "Käse", "12345670", "ŁAŃ/0379"]
