"""The stage on real Spark against real HTTP: what is sent, what is kept, and what a second run costs."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embedding_server as faulty
from embedding_server import Server, refuse, running_server, vector_of
from rehearsal import server as rehearsal
from ruled_server import running_ruled_server
from shelfkin.artifacts import Manifest, Root, RunPaths
from shelfkin.driver_memory import DriverMemory
from shelfkin.embedding.failures import BadKeyError, BudgetError, InsufficientQuotaError, TooManyRefusedError
from shelfkin.embedding.provider import choose_provider
from shelfkin.embedding.vector_store import VectorStore
from shelfkin.errors import EmbeddingUnavailableError, OptionError
from shelfkin.profile import StoreProfile
from shelfkin.settings import Settings
from shelfkin.stage import Stage
from shelfkin.stages import embed_products

pytestmark = pytest.mark.spark

KEY = "sk-proj-PLANTED0123456789"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with running_server() as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.base_url)
        yield running


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def stage_of(spark: Any, tmp_path: Path) -> Callable[..., Stage]:
    """Make a stage over products with the given texts, one product per text in the list."""

    def make(texts: list[str], flags: dict[str, Any] | None = None, **section: Any) -> Stage:
        root = Root.at(str(tmp_path / "artifacts"))
        folder = f"products-{len(list(tmp_path.glob('artifacts/products-*')))}"
        rows = [(f"P{i}", text, sha(text)) for i, text in enumerate(texts)]
        frame = spark.createDataFrame(rows, "product_id string, embedding_text string, text_hash string")
        frame.coalesce(1).write.parquet(root.join(folder, "products"))
        manifest = {
            "format_version": 1,
            "stage": "clean_catalog",
            "tables": {"products": {"path": f"{folder}/products"}},
        }
        root.put_json(root.join(folder, "manifest.json"), manifest)
        profile = StoreProfile.model_validate(
            {
                "store": "shop",
                "title": "Shop",
                "catalog": {"kind": "snapshot", "source": {"path": "x"}, "fields": {"product_id": "i", "title": "t"}},
                "embedding": {"model": "some-model", "max_inputs_per_request": 4, "deadline_s": 20, **section},
            }
        )
        return Stage(
            name="embed_products",
            paths=RunPaths(root, "shop", date(2026, 1, 1), folder),
            profile=profile,
            settings=Settings.from_env({}),
            attempt=f"attempt-1-{folder}",
            options=argparse.Namespace(
                **{"model": None, "dimensions": None, "budget_usd": None, "estimate": False, **(flags or {})}
            ),
            inputs={"clean_catalog": Manifest.read(root, root.join(folder, "manifest.json"))},
        )

    return make


def run(stage: Stage) -> Stage:
    """Run the stage to its end, manifest included."""
    embed_products.run(stage)
    stage.paths.root.put_json(stage.paths.manifest_uri(stage.name), stage.manifest())
    return stage


def vectors_of(stage: Stage) -> dict[str, tuple[int, np.ndarray]]:
    frame = stage.spark.read.parquet(stage.table_uri("product_vectors"))
    return {row["text_hash"]: (row["n_products"], np.array(row["vector"], np.float32)) for row in frame.collect()}


TEXTS = [f"title {i}" for i in range(21)]


def test_each_distinct_text_is_sent_once_and_a_second_run_sends_nothing(
    stage_of: Callable[..., Stage], server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "shelfkin")
    first = stage_of(TEXTS + TEXTS[:5] + TEXTS[:2])
    run(first)
    assert sorted(server.texts) == sorted(TEXTS)
    assert all(len(request.body["input"]) <= 4 for request in server.seen)
    found = vectors_of(first)
    assert {text_hash: n for text_hash, (n, _) in found.items()} == {
        sha(text): 3 if i < 2 else 2 if i < 5 else 1 for i, text in enumerate(TEXTS)
    }
    for text in TEXTS:
        np.testing.assert_array_equal(found[sha(text)][1], vector_of(text))
    n_requests = len(server.seen)
    ledger = first.spark.read.parquet(first.table_uri("embedding_ledger")).collect()
    assert len(ledger) == n_requests == first.metrics["requests_sent"]
    assert sum(row["n_inputs"] for row in ledger) == 21
    assert first.metrics["tokens"] == 7 * n_requests
    assert (first.metrics["texts_reused"], first.metrics["texts_embedded"]) == (0, 21)
    assert first.metrics["dimensions"] == faulty.DIMENSIONS and first.metrics["generation"] == 1

    # The catalogue changes: only the new text goes out. Then nothing changes.
    second = stage_of([*TEXTS[3:], "a new title"])
    run(second)
    assert server.texts[21:] == ["a new title"]
    third = stage_of(TEXTS)
    run(third)
    assert len(server.seen) == n_requests + 1
    assert third.metrics["requests_sent"] == 0 and third.metrics["generation"] == 2
    # A model that tiktoken doesn't know: tokens are bounded by bytes.
    assert third.metrics["tokens_planned"] == 0
    assert third.metrics["tokens_without_store"] == sum(len(text) for text in TEXTS)
    assert "0 requests sent: all 21 texts were in the vector store" in caplog.text
    again = vectors_of(third)
    assert all(again[key][1].tobytes() == found[key][1].tobytes() for key in found)


def test_a_refusal_keeps_what_is_paid_and_the_next_run_sends_the_rest(
    stage_of: Callable[..., Stage], server: Server
) -> None:
    def good(handler: faulty.Handler, texts: list[str]) -> None:
        handler.reply(200, faulty.answer(faulty.entries(texts)))

    server.faults = [good, good, *[refuse(429, "insufficient_quota")] * 50]
    with pytest.raises(InsufficientQuotaError) as caught:
        embed_products.run(stage_of(TEXTS))
    assert caught.value.next_step
    # Another request may have been under way when the first refusal came.
    assert len(server.seen) <= 4
    paid = {text for request in server.seen[:2] for text in request.body["input"]}
    assert paid

    server.faults.clear()
    server.seen.clear()
    second = stage_of(TEXTS)
    run(second)
    assert sorted(server.texts) == sorted(set(TEXTS) - paid)
    assert second.metrics["texts_reused"] == len(paid)
    assert len(vectors_of(second)) == 21


def test_passing_faults_of_every_kind_change_no_vector(stage_of: Callable[..., Stage], server: Server) -> None:
    server.faults = [
        refuse(429, "rate_limit_exceeded", headers={"retry-after-ms": "10"}),
        faulty.reset,
        refuse(500),
        faulty.html,
        faulty.too_few,
        faulty.shuffled,
        faulty.truncated_json,
    ]
    stage = stage_of(TEXTS)
    run(stage)
    found = vectors_of(stage)
    assert all(found[sha(text)][1].tobytes() == vector_of(text).tobytes() for text in TEXTS)
    assert stage.metrics["requests_sent"] == len(server.seen)


def test_a_server_that_stays_away_is_a_retryable_error(stage_of: Callable[..., Stage], server: Server) -> None:
    server.faults = [refuse(503)] * 200
    with pytest.raises(EmbeddingUnavailableError) as caught:
        embed_products.run(stage_of(TEXTS[:2], deadline_s=1))
    assert caught.value.retryable


def test_shards_of_a_killed_run_are_used(stage_of: Callable[..., Stage], server: Server) -> None:
    stage = stage_of(TEXTS)
    store = VectorStore.of(stage.paths.root, choose_provider(stage.profile.embedding))
    paid = np.stack([vector_of(text) for text in TEXTS[:9]])
    store.write_shard("killed", "request-1", [sha(text) for text in TEXTS[:9]], paid)
    run(stage)
    assert sorted(server.texts) == sorted(TEXTS[9:])
    assert len(vectors_of(stage)) == 21


def test_a_text_stored_twice_gives_one_row(stage_of: Callable[..., Stage], server: Server) -> None:
    stage = stage_of(TEXTS[:2])
    store = VectorStore.of(stage.paths.root, choose_provider(stage.profile.embedding))
    for journal, fill in (("run-a", 2.0), ("run-b", 1.0)):
        store.write_shard(journal, "r", [sha(TEXTS[0])], np.full((1, faulty.DIMENSIONS), fill, np.float32))
    run(stage)
    assert vectors_of(stage)[sha(TEXTS[0])][1].tolist() == [1.0] * faulty.DIMENSIONS


def test_long_texts_are_split_at_sentences_and_averaged_by_tokens(
    stage_of: Callable[..., Stage], server: Server
) -> None:
    # A model that tiktoken doesn't know: tokens are bounded by bytes.
    long = "A red mug for tea. It is large. " + "x" * 40
    stage = stage_of([long, "short"], max_tokens_per_input=32)
    run(stage)
    parts = ["A red mug for tea. It is large. ", "x" * 20, "x" * 20]
    assert sorted(server.texts) == sorted([parts[0], parts[1], "short"])  # a part that comes twice is sent once
    mean = sum(len(part) * vector_of(part).astype(np.float64) for part in parts)
    expected = (mean / np.linalg.norm(mean)).astype(np.float32)
    np.testing.assert_allclose(vectors_of(stage)[sha(long)][1], expected, rtol=1e-6)
    assert stage.metrics["texts_split"] == 1
    assert (stage.metrics["texts_distinct"], stage.metrics["texts_embedded"]) == (2, 3)


def test_a_poisonous_text_is_found_and_the_rest_is_embedded(stage_of: Callable[..., Stage], server: Server) -> None:
    server.poison = "title 7"
    stage = stage_of([*TEXTS, "title 7"], max_refused_share=0.05)
    run(stage)
    assert set(vectors_of(stage)) == {sha(text) for text in TEXTS if text != "title 7"}
    refused = stage.spark.read.parquet(stage.table_uri("embedding_refused")).collect()
    assert [(row["text_hash"], row["n_products"], row["reason"]) for row in refused] == [
        (sha("title 7"), 2, "refused_by_server")
    ]
    assert "input" in refused[0]["detail"]
    # The next day it isn't sent again, unless the profile says so.
    n_requests = len(server.seen)
    again = stage_of(TEXTS, max_refused_share=0.05)
    run(again)
    assert len(server.seen) == n_requests and again.metrics["texts_refused"] == 1
    server.poison = None
    mended = stage_of(TEXTS, retry_refused=True)
    run(mended)
    assert server.texts[-1] == "title 7" and len(vectors_of(mended)) == 21


def test_a_text_that_the_server_stumbles_over_is_set_aside_with_the_servers_words(
    stage_of: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shelfkin.embedding.retry_policy._BACKOFF_CAP_S", 0.01)
    words = {"status": 500, "json": {"error": f"unsupported value: NaN, key {KEY}"}}
    with running_ruled_server([{"if": {"holds": "title 9"}, **words}]) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        stage = stage_of(TEXTS, max_inputs_per_request=21)
        run(stage)
        assert set(vectors_of(stage)) == {sha(text) for text in TEXTS if text != "title 9"}
        (row,) = stage.spark.read.parquet(stage.table_uri("embedding_refused")).collect()
        assert row["text_hash"] == sha("title 9") and row["detail"] == "HTTP 500: unsupported value: NaN, key [key]"
        n_requests = len(server.seen)
        run(stage_of(TEXTS))
        assert len(server.seen) == n_requests


def test_too_many_refused_texts_end_the_run(stage_of: Callable[..., Stage], server: Server) -> None:
    server.poison = "title"
    with pytest.raises(TooManyRefusedError, match="refused 2 texts"):
        embed_products.run(stage_of(TEXTS))
    # Not every text was tried: 21 alone would have been 21 requests and the halving on top.
    assert len(server.seen) < 15
    # It was the server's fault: once that is mended, nothing stands as refused.
    server.poison = None
    stage = stage_of(TEXTS)
    run(stage)
    assert len(vectors_of(stage)) == 21


def test_a_budget_stops_before_it_is_crossed_and_keeps_what_is_paid(
    stage_of: Callable[..., Stage], server: Server
) -> None:
    # 8 bytes a text bound its tokens; the server bills 7 a request.
    with pytest.raises(BudgetError, match="budget of 50 tokens") as caught:
        embed_products.run(stage_of(TEXTS, budget_tokens=50))
    assert 7 * len(server.seen) <= 50
    assert "only the rest" in caught.value.next_step
    paid = len(server.texts)
    assert paid > 0
    second = stage_of(TEXTS)
    run(second)
    assert len(server.texts) == 21 and second.metrics["texts_reused"] == paid
    # The ledger takes in the run that was stopped.
    assert second.metrics["tokens"] + second.metrics["tokens_of_unfinished_runs"] == 7 * len(server.seen)
    assert second.metrics["tokens_of_unfinished_runs"] > 0
    ledger = second.spark.read.parquet(second.table_uri("embedding_ledger")).collect()
    assert len(ledger) == len(server.seen) and len({row["journal"] for row in ledger}) == 2
    # And no later ledger does so again.
    third = stage_of(TEXTS)
    run(third)
    assert third.spark.read.parquet(third.table_uri("embedding_ledger")).count() == 0


@pytest.mark.parametrize("key", [f"{KEY}\n", f" {KEY}", "schlüssel"])
def test_a_key_that_no_header_can_carry_is_refused_before_the_first_request(
    stage_of: Callable[..., Stage], server: Server, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(BadKeyError) as caught:
        embed_products.run(stage_of(TEXTS[:1]))
    assert server.seen == [] and key.strip() not in str(caught.value)


def test_a_run_that_is_repeated_keeps_its_ledger(stage_of: Callable[..., Stage], server: Server) -> None:
    first = stage_of(TEXTS)
    run(first)
    # Somebody clears the task: the same run once more, with other texts by now.
    again = stage_of([*TEXTS, "a new title"])
    again.paths = first.paths
    run(again)
    ledger = again.spark.read.parquet(again.table_uri("embedding_ledger")).collect()
    assert len(ledger) == len(server.seen) and sum(row["n_tokens_billed"] for row in ledger) == 7 * len(server.seen)
    assert again.metrics["tokens"] == 7 and len(again.metrics["journals"]) == 2


def test_a_budget_in_dollars_needs_a_price(stage_of: Callable[..., Stage], server: Server) -> None:
    with pytest.raises(OptionError, match="no known price"):
        embed_products.run(stage_of(TEXTS, budget_usd=1.0))
    assert server.seen == []


def test_an_estimate_sends_nothing_and_names_the_price(
    stage_of: Callable[..., Stage], server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "shelfkin")
    stage = stage_of([*TEXTS, "tiktoken is great!"], {"estimate": True}, model="text-embedding-3-large")
    run(stage)
    assert server.seen == [] and stage.tables == {}
    # "title 7" is 3 tokens by cl100k_base ("title", " ", "7"), "tiktoken is great!" 6.
    assert stage.metrics["tokens_planned"] == 21 * 3 + 6
    assert stage.metrics["cost_planned_usd"] == pytest.approx(69 * 0.13e-6, abs=5e-7)
    assert "price table of 2026" in caplog.text


def test_batches_first_and_what_they_leave_the_standard_way(
    stage_of: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = rehearsal.Settings(dimensions=8, batch_s=0.05, poison="title 7", batch_expiring_share=0.25)
    with rehearsal.running_rehearsal_server(settings) as (running, base_url):
        monkeypatch.setenv("OPENAI_BASE_URL", base_url)
        section = {"model": "text-embedding-3-small", "dimensions": 8, "max_refused_share": 0.05}
        stage = stage_of(TEXTS, mode="batch", batch_from_texts=10, batch_poll_s=0.05, **section)
        run(stage)
        account = running.account
        assert set(vectors_of(stage)) == {sha(text) for text in TEXTS if text != "title 7"}
        # 21 texts: 6 requests of 4 (4 of them in time, or 5), one with the poison; the rest went the standard way.
        assert account.batch_texts_billed + account.texts_billed == 20
        assert account.batch_texts_billed >= 8 and account.texts_billed >= 3
        assert stage.metrics["tokens"] == account.batch_tokens_billed + account.tokens_billed
        expected = account.batch_tokens_billed * 0.01e-6 + account.tokens_billed * 0.02e-6
        assert stage.metrics["cost_usd"] == pytest.approx(expected, abs=1e-8)
        ledger = stage.spark.read.parquet(stage.table_uri("embedding_ledger")).collect()
        assert sum(row["n_tokens_billed"] or 0 for row in ledger) == stage.metrics["tokens"]


def test_the_bundled_model_needs_nothing_and_is_not_started_twice(
    stage_of: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    titles = ["red mug", "crimson cup", "garden hose"]
    stage = stage_of(titles, model="text-embedding-3-small", dimensions=512)
    run(stage)
    assert (stage.metrics["provider"], stage.metrics["dimensions"]) == ("local", 384)
    found = {text: vectors_of(stage)[sha(text)][1] for text in titles}
    assert found["red mug"] @ found["crimson cup"] > found["red mug"] @ found["garden hose"]

    def refuse_start() -> None:
        pytest.fail("the model was loaded for nothing")

    monkeypatch.setattr("shelfkin.embedding.embedding_run.LocalClient", refuse_start)
    # A key in the environment doesn't matter to an explicit choice of the bundled model.
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    embed_products.run(stage_of(titles, {"model": "local"}))


def test_an_empty_catalogue_gives_empty_tables(stage_of: Callable[..., Stage], server: Server) -> None:
    stage = stage_of([])
    run(stage)
    assert vectors_of(stage) == {} and server.seen == []
    json.dumps(stage.manifest())


def test_a_catalogue_beyond_the_drivers_memory_is_refused_before_a_request_leaves(
    stage_of: Callable[..., Stage], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A quarter of the memory is room for 20 texts of 8 numbers at 2 * 4 * 8 + 1,500 bytes.
    memory = DriverMemory(total_bytes=4 * 20 * 1_564, heap_bytes=2**30)
    monkeypatch.setattr(DriverMemory, "of_this_machine", lambda heap: memory)
    run(stage_of(TEXTS[:20], dimensions=8))
    before = len(server.seen)
    with pytest.raises(OptionError, match=r"21 distinct texts of 8 numbers .* enough for 20 texts"):
        embed_products.run(stage_of(TEXTS, dimensions=8))
    assert len(server.seen) == before
