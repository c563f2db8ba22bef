"""Embedding servers as they are: what is stored, who is blamed and what a person reads, over real HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from embedding_server import DIMENSIONS
from ruled_server import RuledServer, running_ruled_server
from shelfkin.artifacts import Root
from shelfkin.embedding.admission import Admission
from shelfkin.embedding.client import EmbeddingClient
from shelfkin.embedding.concurrency import ConcurrencyLimit
from shelfkin.embedding.failures import failure_said
from shelfkin.embedding.journal import JournalWriter
from shelfkin.embedding.packing import Text
from shelfkin.embedding.provider import Provider
from shelfkin.embedding.quota import Quota
from shelfkin.embedding.sender import Sender
from shelfkin.embedding.server_errors import words_of
from shelfkin.embedding.vector_store import VectorStore
from shelfkin.errors import EmbeddingUnavailableError, ShelfkinError
from shelfkin.profile import Embedding

KEY = "pa-PLANTED0123456789abcdef"
PROVIDER = Provider("compatible", "http://x/v1", "some-model", DIMENSIONS, True)
TITLES = [f"Teekanne Nr. {i}" for i in range(40)]
GUILTY = TITLES[29]


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class Came:
    """What came of a run."""

    error: Exception | None
    stored: set[str]
    refused: dict[str, str]
    n_requests: int
    gaps: list[float]
    seconds: float
    limits: tuple[float | None, float | None]

    @property
    def read(self) -> str:
        """All that a person reads."""
        error = [self.error.message, self.error.next_step or ""] if isinstance(self.error, ShelfkinError) else []
        return "\n".join([*error, *self.refused.values()])


def run(server: RuledServer, folder: Path, names: list[str], deadline_s: float = 300.0) -> Came:
    """Send what the store in `folder` lacks, as the stage does."""
    provider = Provider("compatible", server.base_url, "some-model", DIMENSIONS, True)
    store = VectorStore.of(Root.at(str(folder)), provider)
    known = _rows(store)
    texts = [Text(sha(name), name, max(1, len(name) // 4)) for name in names if sha(name) not in known]
    server.seen.clear()
    began = time.monotonic()

    async def send() -> Admission:
        quota = Quota(Embedding(), now=time.monotonic())
        admission = Admission(quota, ConcurrencyLimit(), patience_s=deadline_s, max_refused=max(1, len(names) // 100))
        journal = JournalWriter(store.journal(f"run-{len(store.journals())}"))
        async with EmbeddingClient(provider, KEY) as client:
            sender = Sender(client, admission, journal, store, "the server", 2048, DIMENSIONS, deadline_s)
            await sender.run(texts)
        sender.keep()
        return admission

    admission = asyncio.run(send())
    rows = {name: _rows(store).get(sha(name), "") for name in names}
    times = [at for at, _ in server.seen]
    return Came(
        admission.stopped_by,
        {name for name, row in rows.items() if isinstance(row, list)},
        {name: row for name, row in rows.items() if row and isinstance(row, str)},
        len(times),
        [later - earlier for earlier, later in pairwise(times)],
        time.monotonic() - began,
        admission.limits(),
    )


def _rows(store: VectorStore) -> dict[str, Any]:
    shards = [pq.read_table(store.join(shard.path)).to_pylist() for shard in store.latest().shards]
    return {row["text_hash"]: row["vector"] or row["refused"] for rows in shards for row in rows}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hardly any pause between two tries."""
    monkeypatch.setattr("shelfkin.embedding.retry_policy._BACKOFF_CAP_S", 0.01)


def kind_of(came: Came) -> str:
    return getattr(came.error, "kind", "")


# ---- one text that never works --------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 29, 39])
@pytest.mark.parametrize(
    "answer",
    [
        {"status": 500, "text": "Internal Server Error"},
        {"status": 507, "json": {"detail": "cannot encode NaN"}},
        {"status": 200, "vectors": "NaN", "format": "float"},
        {"status": 200, "vectors": "zeros", "format": "float"},
        {"status": 200, "vectors": "zeros"},
        {"status": 200, "json": {"error": {"message": "bad float", "type": "server_error"}}},
    ],
)
def test_the_text_that_never_works_is_set_aside_and_its_neighbours_are_stored(
    tmp_path: Path, quick: None, answer: dict[str, Any], place: int
) -> None:
    guilty = TITLES[place]
    rule = {"if": {"holds": guilty}, **answer}
    if "vectors" in answer:
        rule["vectors"] = {guilty: answer["vectors"]}
    with running_ruled_server([rule]) as server:
        came = run(server, tmp_path, TITLES)
        assert came.error is None
        assert came.stored == set(TITLES) - {guilty} and set(came.refused) == {guilty}
        assert run(server, tmp_path, TITLES).n_requests == 0


def test_neighbours_of_a_vector_without_direction_are_not_paid_for_again(tmp_path: Path, quick: None) -> None:
    with running_ruled_server([{"status": 200, "vectors": {GUILTY: "zeros"}}]) as server:
        run(server, tmp_path, TITLES)
        sent = [text for _, texts in server.seen for text in texts]
    assert all(sent.count(title) == 1 for title in TITLES if title != GUILTY)


def test_a_server_that_fails_for_all_blames_no_text(tmp_path: Path, quick: None) -> None:
    with running_ruled_server([{"status": 500, "json": {"error": "out of memory"}}]) as server:
        came = run(server, tmp_path, TITLES, deadline_s=1.0)
    assert isinstance(came.error, EmbeddingUnavailableError) and came.error.retryable
    assert came.refused == {} and "out of memory" in came.read


@pytest.mark.parametrize("status", [500, 503])
def test_a_server_that_fails_now_and_then_blames_no_text(tmp_path: Path, quick: None, status: int) -> None:
    rules = [{"if": {"request": number}, "status": status, "text": "busy"} for number in range(1, 9)]
    with running_ruled_server(rules) as server:
        came = run(server, tmp_path, TITLES)
    assert came.error is None and came.stored == set(TITLES) and came.refused == {}


# ---- requests that are too large ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, {"json": {"error": {"message": "Request too large on tokens per min: Limit 90, Requested 160."}}}),
        (429, {"json": {"detail": "The minute's budget is smaller than what you ask for."}}),
        (429, {"text": ""}),
        (413, {"text": "<html><head><title>413 Request Entity Too Large</title></head></html>"}),
        (422, {"json": {"error": "batch size 40 > maximum allowed batch size 8", "error_type": "Validation"}}),
    ],
)
def test_requests_get_smaller_until_they_pass(tmp_path: Path, quick: None, status: int, body: dict[str, Any]) -> None:
    with running_ruled_server([{"if": {"characters_over": 120}, "status": status, **body}]) as server:
        came = run(server, tmp_path, TITLES)
    assert came.error is None and came.stored == set(TITLES) and came.refused == {}
    assert came.seconds < 20


# ---- the server's words ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        {"json": {"error": "this shelf is too high"}},
        {"json": {"error": {"message": "this shelf is too high", "type": "x"}}},
        {"json": {"error": {"error": {"Message": "this shelf is too high"}}}},
        {"json": {"message": "this shelf is too high", "statusCode": 400}},
        {"json": {"object": "error", "message": {"detail": [{"msg": "this shelf is too high", "loc": ["input"]}]}}},
        {"json": {"detail": "this shelf is too high"}},
        {"json": {"detail": [{"loc": ["body", "input"], "msg": "this shelf is too high", "type": "value_error"}]}},
        {"json": {"message": "Bad request", "errors": [{"message": "this shelf is too high"}]}},
        {"json": {"title": "Bad Request", "detail": "this shelf is too high", "status": 400}},
        {"json": {"success": False, "result": None, "errors": [{"code": 7, "message": "this shelf is too high"}]}},
        {"json": {"fault": {"faultstring": "this shelf is too high"}}},
        {"json": [{"error": {"code": 400, "message": "this shelf is too high"}}]},
        {"json": ["this shelf is too high"]},
        {"json": "this shelf is too high"},
        {"json": {"why": {"sentence": "this shelf is too high"}}},
        {"text": "this shelf is too high"},
        {"text": "<!doctype html><html><head><title>this shelf is too high</title></head><body>x</body></html>"},
        {"text": "<html><body><h1>this shelf</h1> is too high</body></html>"},
    ],
)
@pytest.mark.parametrize("status", [200, 400, 405, 500])
def test_the_servers_words_are_found(status: int, body: dict[str, Any]) -> None:
    sent = json.dumps(body["json"]) if "json" in body else body["text"]
    failed = failure_said(status, sent.encode(), PROVIDER, KEY)
    assert "this shelf is too high" in failed.said
    assert failed.error is None or "this shelf is too high" in failed.error.message


@pytest.mark.parametrize("status", [200, 400, 405, 500])
def test_a_person_reads_the_servers_words(tmp_path: Path, quick: None, status: int) -> None:
    with running_ruled_server([{"status": status, "json": {"detail": [{"msg": "too high"}]}}]) as server:
        came = run(server, tmp_path, TITLES[:2], deadline_s=0.3)
    assert came.stored == set() and came.error is not None and "too high" in came.read


@pytest.mark.parametrize(
    ("body", "words"), [(None, "no message"), ({}, "no message"), ("  ", "no message"), ([], "no message")]
)
def test_a_body_without_words(body: Any, words: str) -> None:
    assert words_of(body) == words


_ECHOES = [
    {"json": {"error": f"Key {KEY} is odd"}},
    {"json": {"error": {"message": "no", "code": KEY}}},
    {"json": {"detail": f"Who is {KEY[:16]}...?"}},
    {"text": f"<title>who is {KEY.upper()}</title>"},
]


@pytest.mark.parametrize("status", [200, 401, 500])
@pytest.mark.parametrize("body", _ECHOES)
def test_a_key_that_the_server_echoes_is_shown_to_nobody(
    tmp_path: Path, quick: None, status: int, body: dict[str, Any]
) -> None:
    with running_ruled_server([{"status": status, **body}]) as server:
        came = run(server, tmp_path, TITLES[:2], deadline_s=0.3)
    assert "PLANTED" not in f"{came.read} {came.error!r}"
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written and not any(b"PLANTED" in path.read_bytes() for path in written)


# ---- what ends a run, whatever the status ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (400, [{"error": {"code": 400, "message": "API Key not found. Please pass a valid one."}}], "bad_key", "pass"),
        (400, {"error": {"message": "no", "code": "invalid_api_key"}}, "bad_key", "OPENAI_API_KEY"),
        (403, {"message": "The access token has expired"}, "bad_key", "expired"),
        (200, {"error": {"message": "Incorrect API key provided", "code": None}}, "bad_key", "OPENAI_API_KEY"),
        (401, {"detail": "Unauthorized"}, "bad_key", "OPENAI_API_KEY"),
        (401, {"error": {"message": "You must be a member of an organization"}}, "bad_key", "OPENAI_ORG_ID"),
        (402, {"detail": "Payment Required"}, "insufficient_quota", "Add credit"),
        (429, {"error": {"message": "x", "code": "insufficient_quota"}}, "insufficient_quota", "Add credit"),
        (403, {"error": "Insufficient balance, please recharge"}, "insufficient_quota", "recharge"),
        (
            200,
            {"error": {"message": "Your credit balance is too low", "code": 402}},
            "insufficient_quota",
            "Add credit",
        ),
        (403, {"error": "your region is not served"}, "no_permission", "region"),
        (400, {"error": {"message": "The model `x` does not exist"}}, "unknown_model", "--model"),
        (200, {"error": "no such route"}, "bad_request", "no such route"),
        (200, {"error": {"message": "gone", "code": 410}}, "bad_request", "gone"),
    ],
)
def test_what_no_try_can_mend_ends_the_run_at_once(
    tmp_path: Path, status: int, body: Any, kind: str, words: str
) -> None:
    with running_ruled_server([{"status": status, "json": body}]) as server:
        came = run(server, tmp_path, TITLES)
    assert (kind_of(came), came.n_requests, came.refused, came.stored) == (kind, 1, {}, set())
    assert words in came.read
    assert ("--dimensions" in came.read) == (kind == "bad_request")


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "Provider returned error", "code": 502}},
        {"error": {"message": "The engine is overloaded", "type": "overloaded_error"}},
        {"error": {"message": "x", "code": "rate_limit_exceeded"}},
    ],
)
def test_an_error_in_a_200_that_may_pass_is_tried_again(tmp_path: Path, quick: None, body: Any) -> None:
    with running_ruled_server([{"if": {"request": 1}, "status": 200, "json": body}]) as server:
        came = run(server, tmp_path, TITLES)
    assert came.error is None and came.stored == set(TITLES) and came.n_requests == 2


# ---- indexes and headers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", ["absent", "all 0", "from 1", None])
def test_with_one_input_the_index_does_not_matter(tmp_path: Path, index: str | None) -> None:
    with running_ruled_server([{"status": 200, "index": index}]) as server:
        came = run(server, tmp_path, TITLES[:1])
    assert came.error is None and came.stored == {TITLES[0]}


@pytest.mark.parametrize("index", ["absent", None])
def test_without_any_index_the_order_of_the_list_counts(tmp_path: Path, index: str | None) -> None:
    with running_ruled_server([{"status": 200, "index": index}]) as server:
        came = run(server, tmp_path, TITLES)
    assert came.error is None and came.stored == set(TITLES)


@pytest.mark.parametrize("index", ["all 0", "from 1"])
def test_indexes_that_tell_nothing_end_the_run_soon(tmp_path: Path, index: str) -> None:
    with running_ruled_server([{"status": 200, "index": index}]) as server:
        came = run(server, tmp_path, TITLES)
    assert came.stored == set() and came.n_requests == 1
    assert "index" in came.read and "max_inputs_per_request" in came.read


@pytest.mark.parametrize(
    "headers",
    [
        {"x-ratelimit-limit-requests": "1500, 1500", "x-ratelimit-limit-tokens": "70000,70000"},
        [("x-ratelimit-limit-requests", "1500"), ("x-ratelimit-limit-tokens", "70000")] * 2,
    ],
)
def test_limits_that_are_named_twice_are_read(tmp_path: Path, headers: Any) -> None:
    with running_ruled_server([{"status": 200, "headers": headers}]) as server:
        assert run(server, tmp_path, TITLES[:3]).limits == (1500, 70000)


@pytest.mark.parametrize(
    "headers",
    [{"retry-after": "1, 1"}, [("Retry-After", "1")] * 2, {"retry-after-ms": "1000, 1000"}, {"retry-after": "1s"}],
)
@pytest.mark.parametrize("status", [429, 503])
def test_a_wait_that_is_named_twice_is_kept(tmp_path: Path, quick: None, headers: Any, status: int) -> None:
    rule = {"if": {"request": 1}, "status": status, "headers": headers, "json": {"error": "slow down"}}
    with running_ruled_server([rule]) as server:
        came = run(server, tmp_path, TITLES[:3])
    assert came.error is None and 1.0 <= came.gaps[0] < 3.0


# ---- the reference cases --------------------------------------------------------------------------------------------


def test_every_reference_case_comes_out_right(reference_data: Path, tmp_path: Path) -> None:
    path = reference_data.parent / "cases/embedding/embedding.json"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    wrong = {}
    for case in json.loads(path.read_text()):
        names = case.get("texts") or [
            f"title {i}".ljust(case.get("text_length", 0), "x") for i in range(case["n_texts"])
        ]
        with running_ruled_server(case["server"]) as server:
            came = run(server, tmp_path / case["name"], names)
            again = run(server, tmp_path / case["name"], names) if "second_run_stores" in case["want"] else came
        tried = [_misses(want, came, again) for want in case["want"].get("any", [case["want"]])]
        if all(tried):
            wrong[case["name"]] = (tried, came)
    assert wrong == {}


def _misses(want: dict[str, Any], came: Came, again: Came) -> list[str]:
    """Return the wishes of a case that weren't met."""
    words = [(one if isinstance(one, list) else [one]) for one in want.get("shown", [])]
    met = {
        "ends": lambda how: (came.error is None) == (how == "done"),
        "error_kind": lambda kind: kind_of(came) == kind,
        "stored": lambda n: len(came.stored) == n,
        "refused": lambda names: set(came.refused) == set(names),
        "second_run_stores": lambda n: len(again.stored) - len(came.stored) == n,
        "requests_at_most": lambda n: came.n_requests <= n,
        "seconds_at_most": lambda n: came.seconds <= n,
        "waits_at_least_s": lambda n: came.gaps[0] >= n,
        "limit_read": lambda limit: came.limits[0] == limit["requests_per_minute"],
        "shown": lambda _: all(any(word.lower() in came.read.lower() for word in one) for one in words),
        "not_shown": lambda ones: not any(one in came.read for one in ones),
    }
    return [name for name, value in want.items() if not met[name](value)]
