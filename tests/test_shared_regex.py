"""Patterns that Python and Java read alike pass; all others are refused, with the piece and what to write."""

from __future__ import annotations

import pytest

from shelfkin.shared_regex import check_regex


@pytest.mark.parametrize(
    "pattern",
    [
        *(r"\d{4,6}[A-Z]?", r"(?i)gift card|deposit", r"^(?!TEST)\w+$", r"[^\]\[]+", r"(?<=#)\d+", r"(\d)\1"),
        *(r"a++b", r"(?>ab|a)c", r"(?i:sku)-\d+", r"[\w.\-]+", r"\u00e9\x41", r"\{draft\}", "x}", "[a&b]", "ärm.*"),
    ],
)
def test_what_both_read_alike_passes_unchanged(pattern: str) -> None:
    assert check_regex(pattern) == pattern


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (r"(?P<code>\d+)", "(?P<"),
        (r"(?P=code)", "(?P="),
        (r"(?<code>\d+)", "(?<"),
        (r"\d+\Z", "write $"),
        (r"\d+\z", "write $"),
        (r"\p{Lu}+", "\\p"),
        (r"[\P{L}]", "\\P"),
        (r"abc(?i)def", "not at the start"),
        (r"(?x) a b", "(?x)"),
        (r"(?#note)a", "(?#"),
        (r"(a)?(?(1)b|c)", "(?("),
        (r"[a-z&&[^x]]", "&&"),
        (r"[a[bc]]", "write \\["),
        (r"[]a]", "write \\]"),
        (r"a{,3}", "write \\{"),
        (r"{id}", "write \\{"),
        (r"\Q1+1\E", "\\Q"),
        (r"\h+", "\\h"),
        (r"\012", "\\012"),
        (r"(a)\10", "\\10"),
        (r"[\b]", "\\b"),
        (r"(?u)a", "(?u)"),
        (r"\N{DIGIT ONE}", "\\N"),
        ("(", "not a regular expression"),
        ("a**", "not a regular expression"),
        ("a\\", "not a regular expression"),
    ],
)
def test_what_only_one_of_them_reads_is_refused(pattern: str, said: str) -> None:
    with pytest.raises(ValueError) as refused:
        check_regex(pattern)
    assert said in str(refused.value)


@pytest.mark.spark
def test_java_takes_what_passes(spark: object) -> None:
    compiled = spark._jvm.java.util.regex.Pattern.compile  # type: ignore[attr-defined]
    for pattern, text in [(r"a++b", "aab"), (r"(?>ab|a)c", "abc"), (r"[a&b]", "&"), ("x}", "x}"), (r"[\w.\-]+", "a-b")]:
        assert compiled(check_regex(pattern)).matcher(text).matches(), pattern
