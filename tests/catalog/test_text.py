"""Text repair: pure Python, no Spark."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfkin.catalog.text import repair


@pytest.mark.parametrize(
    ("damaged", "repaired"),
    [
        ("CafÃ© crÃ¨me", "Café crème"),  # UTF-8 read as Latin-1
        ("Gift Voucher Â£100.00", "Gift Voucher £100.00"),
        ("Salt &amp; pepper", "Salt & pepper"),
        ("Salt &amp;amp; pepper", "Salt & pepper"),  # escaped twice
        ("<p>Soft <b>towel</b></p><br/>blue", "Soft towel blue"),
        ("Lamp<script>alert(1)</script><!-- note --> black", "Lamp black"),
        ("  two\t words\n here \u00a0", "two words here"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("bell\x07", "bell"),
        ("Cafe\u0301", "Café"),  # NFC
        ("I <3 cats, 5 < 6 > 4", "I <3 cats, 5 < 6 > 4"),  # no tags here
        ("A > B", "A > B"),
        ("It\u2019s \u201cfine\u201d", "It\u2019s \u201cfine\u201d"),  # the shop's own quotes stay
    ],
)
def test_known_damage_is_repaired(damaged: str, repaired: str) -> None:
    assert repair(damaged) == repaired


@given(st.text(max_size=60))
def test_a_repaired_text_is_tidy(text: str) -> None:
    repaired = repair(text)
    assert repaired == repaired.strip()
    assert "  " not in repaired
    assert not any(unicodedata.category(char) == "Cc" for char in repaired)


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="<>&"), max_size=40))
def test_plain_words_stay_as_they_are(text: str) -> None:
    assert repair(text) == text
