"""Prices and currencies: pure Python, but for the one test of the way through Spark."""

from __future__ import annotations

import tomllib
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from babel.core import get_global
from babel.numbers import format_currency, get_currency_precision, get_decimal_symbol
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.profile import Source, Sourced
from shelfkin.sources import read_rows
from shelfkin.values import prices
from shelfkin.values.prices import read_price

AMOUNTS = {
    "$1,299.00": 1299.0,
    "1.299,00 €": 1299.0,
    "1.299 €": 1299.0,
    "1.299": 1.299,  # without a currency sign a machine wrote it
    "1,299": 1299.0,
    "EUR 1\u00a0299,00": 1299.0,
    "1 299,00": 1299.0,
    "1\u2009299.00": 1299.0,
    "1'299.-": 1299.0,
    "CHF 1’299.50": 1299.5,
    "12,5": 12.5,
    "0,999": 0.999,
    "1234,500": 1234.5,
    ",75": 0.75,
    "$.75": 0.75,
    "Rs.75": 75.0,  # here the full stop ends the sign
    "S/.12.50": 12.5,
    "7.€": 7.0,
    "3.49GBP": 3.49,
    "kr 49,-": 49.0,
    "59:-": 59.0,
    "12,--": 12.0,
    "1.290:-": 1290.0,
    "2.499,- kr": 2499.0,
    "1 290,-": 1290.0,
    "1,980円(税込)": 1980.0,
    "12,50 € inkl. MwSt.": 12.5,
    "£12.50 inc VAT": 12.5,
    "12,50 TTC": 12.5,
    "1,200 บาท": 1200.0,
    '49.90 ש"ח': 49.9,
    "8.–": 8.0,
    "Rs. 500/-": 500.0,
    "₹1,29,999.00": 129999.0,
    "2,50,00,000": 25000000.0,
    "1.234.567": 1234567.0,
    "19€95": 19.95,
    "2 499€ 00": 2499.0,
    "3.499€99": 3499.99,
    "20$00": 20.0,
    "12 zł 50": 12.5,
    "KWD 3.500": 3.5,
    "3,500 DT": 3.5,
    "OMR 1,250.500": 1250.5,
    "₫ 1.250": 1250.0,
    "١٬٢٣٤٫٥٠ ر.س": 1234.5,
    "۱۲۳": 123.0,
    "१,२३,४५६.५० रु": 123456.5,
    "１２．５０": 12.5,
    "+5.00": 5.0,
    "5,00 €*": 5.0,
    "free": 0.0,
    "KOSTENLOS": 0.0,
    "-5.00": None,
    "-$ 5": None,
    "5,00-": None,
    "−5": None,
    "on request": None,
    "12-15": None,
    "10 / 12": None,
    "4 for 10": None,
    "from 12": None,
    "Model 5000": None,
    "12 50": None,
    "1,2,3": None,
    "12.50,30": None,
    "19€95€": None,
    "€5 USD": None,
    "12K": None,
    "12⁹⁹": None,
    "5 %": None,
    "€": None,
    "": None,
    "Infinity": None,
    "1e400": None,
    "9" * 400: None,
}


@pytest.mark.parametrize("written", AMOUNTS)
def test_amounts_as_people_write_them(written: str) -> None:
    read = read_price(written)
    assert (read and read[0]) == AMOUNTS[written]


def test_decimal_mark_of_the_profile_ends_guessing() -> None:
    assert [read_price(text, None, ",") for text in ("1,299", "1.299", "12,5")] == [
        (1.299, None),
        (1299, None),
        (12.5, None),
    ]
    assert [read_price(text, None, ".") for text in ("1,299 €", "1.299 €")] == [(1299.0, "EUR"), (1.299, "EUR")]
    # A hundred times too dear would be worse than unread.
    assert read_price("12.50", None, ",") is None


@pytest.mark.parametrize(
    ("written", "own", "currency"),
    [
        ("US$ 5", "EUR", "USD"),
        ("US $5", "EUR", "USD"),
        ("NZ$5", "EUR", "NZD"),
        ("5 $CA", "EUR", "CAD"),
        ("C$5", "NIO", "NIO"),
        ("$5", "CAD", "CAD"),
        ("$5", "EUR", "USD"),
        ("$5", None, "USD"),
        ("$5 AUD", "CAD", "AUD"),
        ("SGD$5", "CAD", "SGD"),
        ("¥500", "CNY", "CNY"),
        ("500円", "EUR", "JPY"),
        ("£5", "EGP", "EGP"),
        ("£5", None, "GBP"),
        ("5 chf", "EUR", "CHF"),
        ("5", "SEK", "SEK"),
        ("5 kr", "NOK", "NOK"),
        ("5 kr", "EUR", None),  # of four countries: nobody can say
        ("5 kr DKK", "EUR", "DKK"),
        ("R 50", "ZAR", "ZAR"),
        ("5 lv.", "EUR", "BGN"),
        ("25 Lei", "EUR", "RON"),
        ("500 FT", "EUR", "HUF"),
        ("5 TL", "EUR", "TRY"),
        ("5 د.إ.\u200f", "EUR", "AED"),
        ("Rp5000", "EUR", "IDR"),
        ("PKR 5", "EUR", "PKR"),
        ("Rs 5", "PKR", "PKR"),
        ("₾5", "EUR", "GEL"),
    ],
)
def test_currency_by_code_sign_or_profile(written: str, own: str | None, currency: str | None) -> None:
    read = read_price(written, own)
    assert read is not None
    assert read[1] == currency


def test_every_currency_of_the_data_is_one() -> None:
    path = Path(prices.__file__).with_name("currencies.toml")
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    named = {
        code for table in (tables["signs"], tables["ambiguous"]) for codes in table.values() for code in codes.split()
    }
    assert named <= get_global("all_currencies").keys()


# Languages that write amounts each in its own way; left out are those whose signs stand for no currency by themselves.
LOCALES = (
    "en_US en_GB en_CA en_IN en_ZA en_AU de_DE de_AT de_CH fr_FR fr_CA fr_CH es_ES es_MX es_CO it_IT pt_BR pt_PT nl_NL "
    "sv_SE nb_NO da_DK fi_FI pl_PL cs_CZ sk_SK hu_HU ro_RO bg_BG hr_HR sr_RS sl_SI el_GR tr_TR ru_RU uk_UA he_IL ar_EG "
    "ar_SA ar_AE fa_IR hi_IN bn_BD ta_IN mr_IN th_TH vi_VN id_ID ms_MY ja_JP ko_KR zh_CN zh_TW lt_LT lv_LV et_EE is_IS "
    "ka_GE kk_KZ hy_AM az_AZ ur_PK ne_NP my_MM km_KH lo_LA"
)
CURRENCIES = (
    "EUR USD GBP JPY CHF CNY INR RUB TRY KRW ILS VND UAH PHP PLN CZK HUF BGN RON BRL AUD CAD HKD SGD TWD NZD MXN THB "
    "MYR IDR KWD BHD OMR JOD TND AED SAR EGP ZAR SEK NOK DKK ISK KZT GEL NGN PKR BDT COP CLP ARS"
)


@given(st.sampled_from(LOCALES.split()), st.sampled_from(CURRENCIES.split()), st.integers(0, 999_999_999))
def test_what_a_locale_formats_reads_back(locale: str, currency: str, units: int) -> None:
    digits = get_currency_precision(currency)
    amount = Decimal(units).scaleb(-digits)
    mark = get_decimal_symbol(locale, numbering_system="default")
    written = format_currency(amount, currency, locale=locale, numbering_system="default")
    read = read_price(written, currency, {"٫": "."}.get(mark, mark))
    assert read == (float(amount), currency), written


@given(st.integers(0, 99_999_999), st.sampled_from(["€", "$", "EUR", "zł", ""]))
def test_every_way_to_write_an_amount_reads_back_without_help(cents: int, sign: str) -> None:
    english = f"{cents / 100:,.2f}"
    german = english.translate(str.maketrans(",.", ".,"))
    french = english.replace(",", "\u202f").replace(".", ",")
    for amount in (english, german, french, english.replace(",", "'"), f"{cents / 100:.2f}"):
        for written in (f"{sign}{amount}", f"{amount} {sign}", f"{sign} {amount}"):
            read = read_price(written, "EUR")
            assert read is not None and read[0] == cents / 100, written


@given(st.text(max_size=30), st.sampled_from([None, "USD", "KWD"]), st.sampled_from([None, ".", ","]))
def test_any_text_is_a_price_or_none(text: str, own: str | None, mark: str | None) -> None:
    read = read_price(text, own, mark)
    assert read is None or 0 <= read[0] < float("inf")


@given(st.text("0123456789.,' -€$krKWD\u00a0", max_size=14))
def test_any_text_like_a_price_is_one_or_none(text: str) -> None:
    read = read_price(text, "EUR")
    assert read is None or 0 <= read[0] < float("inf")


@pytest.mark.spark
def test_only_odd_prices_leave_the_jvm(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    written = ["12.5", "1e3", "5.0E-4", "1.23456785E7", "-3", "cheap", "12€50"]
    path.write_text("p\n" + "\n".join(f'"{text}"' for text in written) + "\n", encoding="utf-8")
    section = Sourced(source=Source(path=str(path)))
    raw = read_rows(spark, section, "catalog", {"price": "p"}, str, date(2024, 1, 1))
    rows = raw.frame.select(
        prices.plain_amount(raw, "p", None).alias("plain"),
        prices.read_prices(F.col("`text:p`"), "EUR", None).alias("read"),
    ).collect()
    assert [row["plain"] for row in rows] == [12.5, 1000.0, 0.0005, 12345678.5, None, None, None]
    assert [tuple(row["read"]) for row in rows][4:] == [(None, None), (None, None), (12.5, "EUR")]
