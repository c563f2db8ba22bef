"""Encodings by people's names: Java must decode a file as Python does."""

from __future__ import annotations

import codecs

import pytest
from pyspark.sql import SparkSession

from shelfkin.encodings import _JAVA, charset, charset_of_file

# Signs of which an encoding's own users need most, by a sample of Python's.
SAMPLES = {
    "cp932": "髙島屋 ①㈱ ～ 茶",
    "cp949": "똠방각하 펲시콜라",
    "euc_kr": "한국어 가게",
    "gb2312": "中文商店",
    "gbk": "鎔基 茶",
    "gb18030": "㐀 中 €",
    "big5": "繁體中文",
    "big5hkscs": "香港 嘅",
    "cp950": "繁體 €",
    "euc_jp": "日本語 かな",
    "shift_jis": "日本語 かな",
    "iso2022_jp": "日本語 かな",
    "johab": "한국어",
}


@pytest.mark.parametrize(
    ("name", "python"),
    [
        ("Windows-31J", "cp932"),
        ("MS932", "cp932"),
        ("sjis", "shift_jis"),
        ("ANSI", "cp1252"),
        ("Windows 1251", "cp1251"),
        ("win1250", "cp1250"),
        ("x-cp1252", "cp1252"),
        ("latin1", "iso8859-1"),
        ("Latin_1", "iso8859-1"),
        ("ISO-8859-15", "iso8859-15"),
        ("latin9", "iso8859-15"),
        ("mac", "mac-roman"),
        ("Macintosh", "mac-roman"),
        ("UTF-16LE", "utf-16-le"),
        ("utf-16-le", "utf-16-le"),
        ("UCS-2 LE", "utf-16-le"),
        ("Unicode", "utf-16"),
        ("utf8", "utf-8"),
        ("UTF-8-BOM", "utf-8-sig"),
        ("ks_c_5601-1987", "cp949"),
        ("UHC", "cp949"),
        ("windows-936", "gbk"),
        ("cp866", "cp866"),
        ("KOI8-U", "koi8-u"),
        ("cp850", "cp850"),
        ("tis620", "tis-620"),
    ],
)
def test_names_that_people_use(name: str, python: str) -> None:
    assert charset(name).python == python


@pytest.mark.parametrize("name", ["latin-99", "rot13", "utf-7", "", "hz"])
def test_what_nobody_can_read_is_refused(name: str) -> None:
    with pytest.raises(LookupError):
        charset(name)


@pytest.mark.parametrize(
    ("first", "told", "python"),
    [
        ("é".encode("utf-16"), "utf-8", "utf-16-le"),
        (codecs.BOM_UTF16_BE + "é".encode("utf-16-be"), "latin-1", "utf-16-be"),
        ("é".encode("utf-8-sig"), "cp1252", "utf-8"),
        ("é".encode("utf-32"), "utf-8", "utf-32-le"),
        ("id,név".encode("utf-16-le"), "utf-16", "utf-16-le"),
        ("id,név".encode("utf-16-be"), "utf-16", "utf-16-be"),
        ("id,név".encode("utf-32-be"), "utf-32", "utf-32-be"),
        (b"id", "cp1252", "cp1252"),
    ],
)
def test_a_file_s_mark_counts(first: bytes, told: str, python: str) -> None:
    assert charset_of_file(first, charset(told)).python == python


@pytest.mark.spark
@pytest.mark.parametrize("python", sorted(_JAVA))
def test_java_decodes_as_python_does(spark: SparkSession, python: str) -> None:
    """Of single bytes all that Python knows; of the wide ones, a sample."""
    jvm = spark._jvm
    assert jvm is not None
    java = jvm.java.nio.charset.Charset.forName(_JAVA[python])

    def decoded(raw: bytes) -> str:
        return str(java.decode(jvm.java.nio.ByteBuffer.wrap(raw)).toString())

    text = SAMPLES.get(python)
    if text is None and python.startswith("utf"):
        text = "Käse 茶 €"
    if text is not None:
        name = f"{python}-be" if python in ("utf-16", "utf-32") else python
        assert decoded(text.encode(name)).removeprefix("\ufeff") == text
        return
    singles = {byte: bytes([byte]).decode(python, errors="ignore") for byte in range(256)}
    known = {byte: sign for byte, sign in singles.items() if sign}
    differing = [byte for byte, sign in known.items() if decoded(bytes([byte])) != sign]
    # Apple changed up to three signs of its tables later: the currency sign became the euro, the logo another.
    assert len(differing) <= (3 if python.startswith("mac") else 1 if python == "tis-620" else 0), differing
