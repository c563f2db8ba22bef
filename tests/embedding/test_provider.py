"""Who embeds under which settings, and how texts are cut into requests."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfkin.embedding.packing import Text, pack
from shelfkin.embedding.provider import choose_provider
from shelfkin.errors import OptionError
from shelfkin.profile import Embedding

KEY = {"OPENAI_API_KEY": "sk-test"}
SERVER = {"OPENAI_BASE_URL": "http://vectors.example:8080/v1/"}
PROFILE = Embedding(model="text-embedding-3-small", dimensions=512)


@pytest.mark.parametrize(
    ("env", "flags", "path", "send_dimensions"),
    [
        # Without key or server the profile's OpenAI model and length don't apply.
        ({}, {}, ("local", "all-MiniLM-L6-v2-int8", "384"), False),
        (KEY, {}, ("openai", "text-embedding-3-small", "512"), True),
        (KEY, {"model": "local"}, ("local", "all-MiniLM-L6-v2-int8", "384"), False),
        # The profile's length belongs to the profile's model.
        (KEY, {"model": "text-embedding-3-large"}, ("openai", "text-embedding-3-large", "3072"), False),
        # Asking for the native length is the same request as asking for none, so it is the same store.
        (KEY, {"dimensions": 1536}, ("openai", "text-embedding-3-small", "1536"), False),
    ],
)
def test_choice(env: dict[str, str], flags: dict, path: tuple[str, ...], send_dimensions: bool) -> None:
    provider = choose_provider(PROFILE, env=env, **flags)
    assert (provider.slug, provider.model_slug, provider.dimensions_slug) == path
    assert provider.send_dimensions is send_dimensions


def test_a_compatible_server_has_its_own_folder_and_needs_no_key() -> None:
    provider = choose_provider(PROFILE, model="BAAI/bge-small-en", env=SERVER)
    assert provider.kind == "compatible" and provider.base_url == "http://vectors.example:8080/v1"
    assert provider.dimensions_slug == "native" and not provider.send_dimensions
    other = choose_provider(PROFILE, env={"OPENAI_BASE_URL": "http://other.example/v1"})
    assert provider.slug != other.slug
    for slug in (provider.slug, provider.model_slug):
        assert all(letter.isalnum() or letter in "_-" for letter in slug)


def test_a_credential_in_the_base_url_stays_out_of_paths_and_log_lines() -> None:
    env = {"OPENAI_BASE_URL": "https://user:hunter2@vectors.example/v1"}
    provider = choose_provider(PROFILE, env=env)
    assert "hunter2" not in provider.slug + provider.describe()


@pytest.mark.parametrize(
    ("env", "flags", "message"),
    [
        ({}, {"model": "text-embedding-3-small"}, "OPENAI_API_KEY"),
        ({}, {"dimensions": 512}, "384"),
        (KEY, {"dimensions": 4096}, "1536"),
        ({"OPENAI_BASE_URL": "vectors.example"}, {}, "http"),
    ],
)
def test_impossible_choices_are_refused(env: dict[str, str], flags: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        choose_provider(PROFILE, env=env, **flags)
    assert caught.value.next_step


@given(
    st.lists(st.text(max_size=30), max_size=60),
    st.integers(min_value=1, max_value=7),
    st.integers(min_value=1, max_value=80),
)
def test_requests_keep_the_limits_and_lose_nothing(texts: list[str], max_inputs: int, max_tokens: int) -> None:
    sizes = {text: len(text.encode()) for text in texts}
    stream = (Text(str(i), text, sizes[text]) for i, text in enumerate(texts))
    batches = list(pack(stream, max_inputs, lambda: max_tokens))
    assert [text.text for batch in batches for text in batch] == texts
    for batch in batches:
        bound = sum(text.n_tokens for text in batch)
        assert 1 <= len(batch) <= max_inputs
        assert bound <= max_tokens or len(batch) == 1
    # Greedy: no request could have taken the first text of the next one.
    for batch, following in pairwise(batches):
        full = sum(text.n_tokens for text in batch) + following[0].n_tokens > max_tokens
        assert full or len(batch) == max_inputs
