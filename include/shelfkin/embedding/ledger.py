"""The account of all requests: what each was, what it cost, and what may have been billed without our knowing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shelfkin.artifacts import Root
from shelfkin.embedding.journal import Journal
from shelfkin.embedding.vector_store import VectorStore

# Of a request without an outcome: the run was killed while it was under way.
IN_FLIGHT = "in_flight"
# What may have been billed although no answer told so.
_MAYBE_BILLED = frozenset({"lost", "unusable", IN_FLIGHT})


def unconfirmed_tokens(status: str, n_tokens: int, billed: int | None) -> int:
    """Return the tokens of a request that may have been billed without our knowing.

    Parameters
    ----------
    status
        What became of it.
    n_tokens
        Its tokens by our count.
    billed
        Its tokens by the server's count, if it said so.
    """
    if status in _MAYBE_BILLED:
        return max(n_tokens, billed or 0)
    return n_tokens if status == "ok" and billed is None else 0


@dataclass(frozen=True)
class Summary:
    """What a ledger adds up to."""

    requests: int
    tokens: int
    tokens_unconfirmed: int
    rate_limited: int
    cost_usd: float


def summarise(rows: Iterable[dict[str, Any]]) -> Summary:
    """Add up ledger rows."""
    rows = list(rows)
    return Summary(
        requests=len(rows),
        tokens=sum(row["n_tokens_billed"] or 0 for row in rows),
        tokens_unconfirmed=sum(row["n_tokens_unconfirmed"] for row in rows),
        rate_limited=sum(row["status"] == "rate_limited" for row in rows),
        cost_usd=round(sum(row["cost_usd"] for row in rows), 8),
    )


def ledger_rows(
    store: VectorStore, journal: Journal, model: str, usd_per_token: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Return one row per request of a journal, in the order in which they were sent.

    `usd_per_token` is the price by mode, ``standard`` and ``batch``. A request without an outcome is `IN_FLIGHT`,
    unless its answer lies in a shard: then it is as good as settled.
    """
    permits: dict[str, dict[str, Any]] = {}
    outcomes: dict[str, dict[str, Any]] = {}
    for line in journal.lines():
        if "settled" in line:
            outcomes[line["settled"]] = line
        else:
            permits[line["permit"]] = line
    # Requests of a batch have no permits: their shards tell of them.
    open_ended = any(outcomes.get(name, {}).get("status") in (None, "lost") for name in permits)
    for line in store.orphan_requests(journal.name) if open_ended or not permits else ():
        permits.setdefault(line["permit"], line)
        if outcomes.get(line["permit"], {}).get("status") in (None, "lost"):
            outcomes[line["permit"]] = line
    return [
        _row(journal.name, model, usd_per_token, permit, outcomes.get(name, {"status": IN_FLIGHT}))
        for name, permit in permits.items()
        if outcomes.get(name, {}).get("status") != "not_sent"
    ]


def _row(
    journal: str, model: str, usd_per_token: Mapping[str, float], permit: dict[str, Any], outcome: dict[str, Any]
) -> dict[str, Any]:
    status, billed = outcome["status"], outcome.get("billed")
    confirmed = billed if status == "ok" else None
    return {
        "request_id": permit["permit"],
        "journal": journal,
        "requested_at": datetime.fromisoformat(permit["at"]),
        "model": model,
        "n_inputs": permit["inputs"],
        "n_tokens": permit["tokens"],
        "n_tokens_billed": confirmed,
        "n_tokens_unconfirmed": unconfirmed_tokens(status, permit["tokens"], billed),
        "n_retries": permit["try"] - 1,
        "status": status,
        "http_status": outcome.get("http_status"),
        "latency_s": outcome.get("latency_s"),
        "cost_usd": (confirmed or 0) * usd_per_token[outcome.get("mode", "standard")],
        "server_request_id": outcome.get("request_id") or None,
        "shard": (outcome.get("shard") or {}).get("path"),
    }


def unaccounted_journals(store: VectorStore, manifest: str) -> list[Journal]:
    """Return the journals of runs that ended without a manifest, oldest first: killed, or failed on an error.

    The ledger of the next run that succeeds takes them in, so that the ledgers of all manifests add up to the bill.
    Journals that are in a manifest's ledger already are deleted here: what they say stands there.

    Parameters
    ----------
    manifest
        Of the asking run; a journal of another run that may still be at work is left alone.
    """
    found = []
    for journal in store.journals():
        if any(_names(store.root, claim, journal.name) for claim in journal.claims()):
            journal.delete()
        elif not journal.may_live(manifest):
            found.append(journal)
    return found


def _names(root: Root, manifest: str, journal: str) -> bool:
    """Whether a manifest has been written and its ledger holds the journal."""
    uri = root.join(manifest)
    return root.exists(uri) and journal in root.read_json(uri).get("metrics", {}).get("journals", [])
