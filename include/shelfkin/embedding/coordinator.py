"""One quota for the whole job: who may send a request, when, and what became of it.

The driver's book. It lives on the event loop of `permit_server.PermitServer`, which lets tasks ask; nothing here knows
of sockets. A task claims its partition and asks for a permit before every request; it hands it back with what came
of it. A connection that breaks gives its permits and claims back, so that a lost executor holds nothing.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from shelfkin.artifacts import utc_now
from shelfkin.embedding.concurrency import ConcurrencyLimit
from shelfkin.embedding.journal import Journal, JournalWriter
from shelfkin.embedding.ledger import unconfirmed_tokens
from shelfkin.embedding.quota import MINUTE_S, Quota
from shelfkin.embedding.rate_headers import Allowance, RateHeaders

log = logging.getLogger("shelfkin.embedding")

_RECENT_S = 60.0  # the span that "tokens a minute" is measured over
_ENOUGH_ANSWERS = 5  # to tell a throughput from


@dataclass(frozen=True)
class Budget:
    """What a run may spend; None: no limit."""

    tokens: int | None = None
    usd: float | None = None


@dataclass
class Totals:
    """What a run has done so far. Tokens are as the server bills them, except those that nobody confirmed."""

    texts: int = 0
    refused_texts: int = 0
    requests: int = 0
    rate_limited: int = 0
    failed: int = 0
    tokens: int = 0
    tokens_unconfirmed: int = 0
    under_way: int = 0
    tokens_under_way: int = 0


@dataclass
class _Permit:
    task: str
    connection: int
    n_inputs: int
    n_tokens: int
    estimate: float
    left_at: float


@dataclass
class _Asking:
    """A request for a permit that waits for its turn."""

    connection: int
    task: str
    message: dict[str, Any]
    granted: asyncio.Future[dict[str, Any]]


@dataclass
class _Claim:
    """A partition and who works on it; `shards` is what earlier workers on it wrote."""

    owner: int | None
    waiting: deque[tuple[int, asyncio.Future[bool]]] = field(default_factory=deque)


class Coordinator:
    """Gives permits under one quota.

    Parameters
    ----------
    quota
        The buckets.
    concurrency
        How many requests may be under way.
    journal
        Where permits are written down before they are given.
    usd_per_token
        The price; 0 where nothing is billed.
    budget
        What may be spent.
    patience_s
        Longest wait for a server that holds us off, or for a day's limit; beyond, the run stops.
    max_refused
        Texts that the server may refuse for good before the run fails.
    clock
        Monotonic seconds.
    """

    def __init__(
        self,
        quota: Quota,
        concurrency: ConcurrencyLimit,
        journal: Journal,
        *,
        usd_per_token: float = 0.0,
        budget: Budget = Budget(),
        patience_s: float = 300.0,
        max_refused: int | None = None,
        dimensions: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.totals = Totals()
        self._quota, self._concurrency, self._journal = quota, concurrency, journal
        self._usd_per_token, self._budget, self._patience_s = usd_per_token, budget, patience_s
        self._max_refused, self._dimensions, self._clock = max_refused, dimensions, clock
        self._asking: OrderedDict[str, deque[_Asking]] = OrderedDict()
        self._permits: dict[str, _Permit] = {}
        self._claims: dict[int, _Claim] = {}
        self._shards: list[dict[str, Any]] = []
        self._stop: dict[str, Any] | None = None
        self._stopped = threading.Event()
        self._ratio = _TokenRatio()
        # The loop itself holds its tasks weakly only.
        self._granting: set[asyncio.Future[None]] = set()
        self._recent: deque[tuple[float, int]] = deque()
        self._started_at = clock()
        self._n_permits = 0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, writer: JournalWriter) -> None:
        """Take up work on the running event loop; permits are written to `writer` first."""
        self._loop, self._writer = asyncio.get_running_loop(), writer

    @property
    def shards(self) -> list[dict[str, Any]]:
        """Entries of the shards that tasks have reported."""
        return list(self._shards)

    @property
    def stop_reason(self) -> dict[str, Any] | None:
        """Why no more permits are given, or None."""
        return self._stop

    def wait_stopped(self, timeout_s: float) -> bool:
        """Wait until permits are no longer given; return whether that is so."""
        return self._stopped.wait(timeout_s)

    def tokens_per_minute(self) -> float:
        """Return the tokens of the last minute's requests, per minute."""
        now = self._clock()
        span = max(min(_RECENT_S, now - self._started_at), 1.0)
        return sum(tokens for at, tokens in list(self._recent) if at > now - span) / span * MINUTE_S

    def limits(self) -> tuple[float | None, float | None]:
        """Return the requests and tokens per minute that are known, or None."""
        return self._quota.limit("requests"), self._quota.limit("tokens")

    def spent_usd(self) -> float:
        """Return what the confirmed tokens cost."""
        return self.totals.tokens * self._usd_per_token

    async def answer(self, connection: int, message: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to one message of a task; waits for as long as a permit or a partition takes.

        Raises
        ------
        ValueError, KeyError, TypeError
            The message makes no sense.
        """
        kind = message["ask"]
        if kind == "permit":
            return await self._permit(connection, message)
        if kind == "settle":
            self._settle(message)
            return self._hint()
        if kind == "claim":
            return {**self._hint(), "fresh": await self._claim(connection, int(message["partition"]))}
        if kind == "stop":
            self._stop_now(message["reason"])
            return self._hint()
        raise ValueError(kind)

    def _hint(self) -> dict[str, Any]:
        """What a task packs its next request by."""
        tokens = int(min(self._quota.request_tokens() / self._ratio.upper, self._quota.max_tokens_per_request))
        return {"request_tokens": max(1, tokens), "stop": self._stop is not None, "dimensions": self._dimensions}

    async def _claim(self, connection: int, partition: int) -> bool:
        """Give a partition to one task at a time; return whether it is the first one.

        Of two tries of one task (speculation, or a retry while the first still runs) the second waits: both at work
        would pay twice for the same texts.
        """
        claim = self._claims.get(partition)
        if claim is None:
            self._claims[partition] = _Claim(connection)
            return True
        if claim.owner is not None:
            turn: asyncio.Future[bool] = self._loop.create_future()
            claim.waiting.append((connection, turn))
            await turn
        else:
            claim.owner = connection
        return False

    async def _permit(self, connection: int, message: dict[str, Any]) -> dict[str, Any]:
        if self._stop is not None:
            return self._hint()
        asking = _Asking(connection, str(message["task"]), message, self._loop.create_future())
        self._asking.setdefault(asking.task, deque()).append(asking)
        self._pump()
        return await asking.granted

    def _pump(self) -> None:
        """Give permits, task by task in turn, as long as quota, concurrency and budget allow."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._asking and self._stop is None:
            task, queue = next(iter(self._asking.items()))
            asking = queue[0]
            if asking.granted.done():  # its connection is gone
                self._drop(task)
                continue
            if self.totals.under_way >= self._allowed_under_way():
                return
            now = self._clock()
            n_tokens = int(asking.message["tokens"])
            estimate = n_tokens * self._ratio.upper
            blocked_s = self._quota.blocked_s(estimate, now)
            if blocked_s > self._patience_s:
                self._stop_now(_out_of_patience(blocked_s))
                return
            wait_s = self._quota.wait_s(estimate, now)
            if wait_s > 0:
                # Not longer than a second: the pace may recover, and a guessed limit grow, without any answer.
                self._timer = self._loop.call_later(min(wait_s, 1.0), self._pump)
                return
            if self._over_budget(n_tokens):
                return
            self._drop(task)
            self._quota.take(estimate, now)
            self._n_permits += 1
            name = f"{self._journal.name}-{self._n_permits:07d}"
            permit = _Permit(task, asking.connection, int(asking.message["inputs"]), n_tokens, estimate, now)
            self._permits[name] = permit
            self.totals.under_way += 1
            self.totals.tokens_under_way += n_tokens
            granting = asyncio.ensure_future(self._grant(name, permit, asking))
            self._granting.add(granting)
            granting.add_done_callback(self._granting.discard)

    def _drop(self, task: str) -> None:
        """Take a task's first waiting request out of the queue, and put the task at its end."""
        queue = self._asking[task]
        queue.popleft()
        if queue:
            self._asking.move_to_end(task)
        else:
            del self._asking[task]

    def _allowed_under_way(self) -> int:
        # Until the first answer has named the limits, one request finds out.
        self._concurrency.paced = self._quota.limit("requests") is not None or self._quota.limit("tokens") is not None
        if self._concurrency.paced and self.totals.failed == 0:
            self._concurrency.limit = self._concurrency.highest
        return int(self._concurrency.limit) if self._quota.known else 1

    def _over_budget(self, n_tokens: int) -> bool:
        """Stop before a request that might cross the budget, counting what is under way and what nobody confirmed."""
        totals = self.totals
        after = totals.tokens + totals.tokens_unconfirmed + totals.tokens_under_way + n_tokens
        if self._budget.tokens is not None and after > self._budget.tokens:
            limit = f"{self._budget.tokens:,} tokens"
        elif self._budget.usd is not None and after * self._usd_per_token > self._budget.usd:
            limit = f"${self._budget.usd:,.2f}"
        else:
            return False
        if totals.under_way:
            return True  # what is under way may turn out smaller than it was counted
        self._stop_now(
            {
                "error": "BudgetError",
                "message": f"The next request would cross the budget of {limit}; {totals.tokens:,} tokens are spent.",
                "next_step": "Raise the budget and run again: what is paid for is kept, and only the rest is sent.",
            }
        )
        return True

    async def _grant(self, name: str, permit: _Permit, asking: _Asking) -> None:
        line = {
            "permit": name,
            "at": utc_now(),
            "inputs": permit.n_inputs,
            "tokens": permit.n_tokens,
            "try": int(asking.message.get("try", 1)),
        }
        try:
            await self._writer.write(line)
        except Exception as error:  # noqa: BLE001 - no journal, no request
            self._release(name)
            self._stop_now(
                {
                    "error": "ArtifactError",
                    "message": f"The journal {self._journal.uri} can't be written ({type(error).__name__}: {error}).",
                    "next_step": "Check the artifact root's space and permissions, then run again.",
                }
            )
            if not asking.granted.done():
                asking.granted.set_result(self._hint())
            return
        if asking.granted.done() or self._stop is not None:
            # Nobody is left to use it, or nothing may leave any more: the journal says so.
            self._release(name)
            self._writer.note({"settled": name, "status": "not_sent"})
            if not asking.granted.done():
                asking.granted.set_result(self._hint())
            return
        asking.granted.set_result({**self._hint(), "permit": name})

    def _settle(self, message: dict[str, Any]) -> None:
        """Take back a permit with what came of its request."""
        name, now = str(message["permit"]), self._clock()
        permit = self._release(name)
        if permit is None:
            return
        status = message["status"]
        totals = self.totals
        totals.requests += 1
        headers = _headers(message.get("limits") or {})
        outstanding = (totals.under_way, totals.tokens_under_way * self._ratio.upper)
        # An error page of a proxy tells nothing about limits; it must not pass for a server that has none.
        if status == "ok" or headers.requests or headers.tokens:
            self._quota.observe(headers, outstanding, now)
        if status == "ok":
            self._count_answer(message, permit, now)
        elif status == "rate_limited":
            totals.rate_limited += 1
            self._slow_down(message, permit, now)
        elif status in ("lost", "unusable", "failed"):
            totals.failed += 1
            totals.tokens_unconfirmed += unconfirmed_tokens(status, permit.n_tokens, message.get("billed"))
            if status != "unusable":  # nonsense is no sign of overload
                self._concurrency.failed(permit.left_at, now)
        if status in ("failed", "refused"):
            # No tokens were used. A server that counts them all the same says so in its headers.
            self._quota.settle(permit.estimate, 0, now)
        totals.refused_texts += int(message.get("refused", 0))
        if self._max_refused is not None and totals.refused_texts > self._max_refused:
            self._stop_now(_too_many_refused(totals.refused_texts, self._max_refused, str(message.get("said") or "")))
        self._writer.note({"settled": name, **{key: message[key] for key in _SETTLED_KEYS if key in message}})
        self._pump()

    def _count_answer(self, message: dict[str, Any], permit: _Permit, now: float) -> None:
        totals, billed = self.totals, message.get("billed")
        tokens = int(billed or permit.n_tokens)
        totals.tokens += int(billed or 0)
        totals.tokens_unconfirmed += unconfirmed_tokens("ok", permit.n_tokens, billed)
        totals.texts += permit.n_inputs
        self._recent.append((now, tokens))
        while self._recent and self._recent[0][0] < now - _RECENT_S:
            self._recent.popleft()
        if billed:
            self._quota.settle(permit.estimate, billed, now)
            self._ratio.learn(billed / max(permit.n_tokens, 1))
        self._concurrency.answered(max(tokens, permit.n_inputs), now)
        if self._dimensions is None:
            self._dimensions = message.get("dimensions")
        if message.get("shard"):
            self._shards.append(message["shard"])

    def _slow_down(self, message: dict[str, Any], permit: _Permit, now: float) -> None:
        if len(self._recent) >= _ENOUGH_ANSWERS:
            per_minute = MINUTE_S / max(min(_RECENT_S, now - self._started_at), 1.0)
            self._quota.guess(len(self._recent) * per_minute, self.tokens_per_minute(), now)
        if self._quota.refuse(message.get("retry_after_s"), permit.left_at, now):
            log.warning("the server asks for a slower pace (429): now at %.0f%% of the quota", 100 * self._quota.pace)

    def _release(self, name: str) -> _Permit | None:
        permit = self._permits.pop(name, None)
        if permit is not None:
            self.totals.under_way -= 1
            self.totals.tokens_under_way -= permit.n_tokens
        return permit

    def lose(self, connection: int) -> None:
        """Give back what a broken connection held."""
        for name in [name for name, permit in self._permits.items() if permit.connection == connection]:
            permit = self._release(name)
            if permit is not None:  # it may have been sent, and billed
                self.totals.tokens_unconfirmed += unconfirmed_tokens("lost", permit.n_tokens, None)
                self._writer.note({"settled": name, "status": "lost"})
        for queue in self._asking.values():
            for asking in queue:
                if asking.connection == connection and not asking.granted.done():
                    asking.granted.cancel()
        for claim in self._claims.values():
            claim.waiting = deque(entry for entry in claim.waiting if entry[0] != connection)
            if claim.owner == connection:
                claim.owner = None
                while claim.waiting and claim.owner is None:
                    waiting, turn = claim.waiting.popleft()
                    if not turn.done():  # it owns the partition from now on, before anybody else can ask
                        claim.owner = waiting
                        turn.set_result(True)
        self._pump()

    def _stop_now(self, reason: dict[str, Any]) -> None:
        if self._stop is None:
            self._stop = reason
            self._stopped.set()
        for queue in self._asking.values():
            for asking in queue:
                if not asking.granted.done():
                    asking.granted.set_result(self._hint())
        self._asking.clear()


_SETTLED_KEYS = (
    "status", "http_status", "billed", "latency_s", "request_id", "refused", "said", "shard",
)  # fmt: skip


class _TokenRatio:
    """How the server's token counts relate to ours, where ours is a bound: quota is taken for what will be used."""

    def __init__(self) -> None:
        self._seen: deque[float] = deque(maxlen=20)

    @property
    def upper(self) -> float:
        """Expected share of our count, on the safe side; 1 until something is known."""
        return min(1.0, 1.05 * max(self._seen)) if len(self._seen) >= 3 else 1.0

    def learn(self, ratio: float) -> None:
        self._seen.append(ratio)


def _headers(limits: dict[str, Any]) -> RateHeaders:
    def allowance(entry: list[float | None] | None) -> Allowance | None:
        return Allowance(*entry) if entry and entry[0] else None  # type: ignore[arg-type]

    return RateHeaders(allowance(limits.get("requests")), allowance(limits.get("tokens")))


def _out_of_patience(wait_s: float) -> dict[str, Any]:
    hours = f"{wait_s / 3600:.1f} hours" if wait_s > 7200 else f"{wait_s / 60:.0f} minutes"
    return {
        "error": "EmbeddingUnavailableError",
        "message": f"The quota is used up; the next request may leave in {hours}.",
        "next_step": "Run the task again then, or raise the key's limits: finished vectors are kept.",
    }


def _too_many_refused(n_refused: int, limit: int, said: str) -> dict[str, Any]:
    return {
        "error": "TooManyRefusedError",
        "message": f"The server refused {n_refused:,} texts for good, more than the {limit:,} that the profile allows; "
        f"the last time it said: {said or 'nothing'}.",
        "next_step": "Check --model, --dimensions and the texts, or raise embedding.max_refused_share: nothing that "
        "was refused in this run counts as known.",
    }
