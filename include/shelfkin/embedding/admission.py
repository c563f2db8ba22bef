"""Who may send now: one quota, one limit of requests under way and one budget for all requests of a run.

Lives on the sender's event loop. A request is admitted, in the order of asking, and settled with what came of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from shelfkin.embedding.concurrency import ConcurrencyLimit
from shelfkin.embedding.failures import BudgetError, RequestFailedError, TooManyRefusedError
from shelfkin.embedding.ledger import unconfirmed_tokens
from shelfkin.embedding.prices import Budget
from shelfkin.embedding.quota import Quota
from shelfkin.embedding.rate_headers import MINUTE_S, read_rate_headers, retry_after_s
from shelfkin.errors import EmbeddingUnavailableError

log = logging.getLogger("shelfkin.embedding")

_RECENT_S = 60.0  # the span that "tokens a minute" is measured over
_ENOUGH_ANSWERS = 5  # to tell a throughput from
# The pace may recover, and a guessed limit grow, without any answer.
_LOOK_AGAIN_S = 1.0


class StoppedError(Exception):
    """No more requests leave; `Admission.stopped_by` says why."""


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


@dataclass(frozen=True)
class Permit:
    """One admitted request.

    Attributes
    ----------
    n_texts, n_tokens
        What it holds; tokens by our count.
    estimate
        Tokens that were taken from the quota for it.
    left_at
        The clock's time.
    """

    number: int
    n_texts: int
    n_tokens: int
    estimate: float
    left_at: float


@dataclass
class Admission:
    """Admits requests.

    Parameters
    ----------
    quota
        The key's limits.
    concurrency
        How many requests may be under way.
    usd_per_token
        The price; 0 where nothing is billed.
    budget
        What may be spent.
    patience_s
        Longest wait for a server that holds us off, or for a day's limit; beyond, the run stops.
    max_refused
        Texts that the server may refuse for good before the run stops.
    max_refused_unanswered
        As many where no more texts than that were embedded: then the settings are to blame, not the texts.
    clock
        Monotonic seconds.

    Attributes
    ----------
    stopped, stopped_by
        Whether no more requests leave, and the error that ended the run early.
    """

    quota: Quota
    concurrency: ConcurrencyLimit
    usd_per_token: float = 0.0
    budget: Budget = Budget()  # noqa: RUF009 - frozen
    patience_s: float = 300.0
    max_refused: int | None = None
    max_refused_unanswered: int | None = None
    clock: Callable[[], float] = time.monotonic
    totals: Totals = field(default_factory=Totals)
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    stopped_by: Exception | None = None
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    # The server's token counts as shares of ours, newest last.
    _ratios: deque[float] = field(default_factory=lambda: deque(maxlen=20))
    _recent: deque[tuple[float, int]] = field(default_factory=deque)
    _n_permits: int = 0

    def __post_init__(self) -> None:
        self._started_at = self.clock()

    def stop(self, error: Exception) -> None:
        """Admit nobody any more; the first error is the one that counts."""
        self.stopped_by = self.stopped_by or error
        self.stopped.set()
        self._changed.set()

    async def pause(self, seconds: float) -> None:
        """Wait; raises StoppedError as soon as the run is stopped."""
        try:
            await asyncio.wait_for(self.stopped.wait(), seconds)
        except TimeoutError:
            return
        raise StoppedError

    def request_tokens(self) -> int:
        """Return how many tokens of our count the next request should hold."""
        return max(1, int(min(self.quota.request_tokens() / self._upper_ratio, self.quota.max_tokens_per_request)))

    def limits(self) -> tuple[float | None, float | None]:
        """Return the requests and tokens per minute that are known, or None."""
        return self.quota.limit("requests"), self.quota.limit("tokens")

    def tokens_per_minute(self) -> float:
        """Return the tokens of the last minute's requests, per minute."""
        span = self._recent_span_s()
        return sum(tokens for at, tokens in self._recent if at > self.clock() - span) / span * MINUTE_S

    def spent_usd(self) -> float:
        """Return what the confirmed tokens cost."""
        return self.totals.tokens * self.usd_per_token

    async def admit(self, n_texts: int, n_tokens: int) -> Permit:
        """Wait until a request may leave, and count it.

        Raises
        ------
        StoppedError
            The run has been stopped, or this request would cross the budget or wait for hours.
        """
        async with self._turn:
            while (wait_s := self._wait_s(n_tokens)) > 0:
                self._changed.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), min(wait_s, _LOOK_AGAIN_S))
            now, estimate = self.clock(), n_tokens * self._upper_ratio
            self.quota.take(estimate, now)
            self._n_permits += 1
            self.totals.under_way += 1
            self.totals.tokens_under_way += n_tokens
            return Permit(self._n_permits, n_texts, n_tokens, estimate, now)

    def _wait_s(self, n_tokens: int) -> float:
        """Return the seconds until a request may leave, as far as they are known; 0: now."""
        if self.stopped_by is None and self.totals.under_way < self._allowed_under_way():
            now, estimate = self.clock(), n_tokens * self._upper_ratio
            blocked_s = self.quota.blocked_s(estimate, now)
            if blocked_s > self.patience_s:
                self.stop(_out_of_patience(blocked_s))
            else:
                wait_s = self.quota.wait_s(estimate, now)
                if wait_s > 0 or not self._over_budget(n_tokens):
                    return wait_s
        if self.stopped_by is not None:
            raise StoppedError
        return _LOOK_AGAIN_S

    def _allowed_under_way(self) -> int:
        # Until the first answer has named the limits, one request finds out.
        if not self.quota.known:
            return 1
        self.concurrency.paced = self.limits() != (None, None)
        if self.concurrency.paced and self.totals.failed == 0:
            self.concurrency.limit = self.concurrency.highest
        return int(self.concurrency.limit)

    def _over_budget(self, n_tokens: int) -> bool:
        """Stop before a request that might cross the budget, counting what is under way and what nobody confirmed."""
        totals = self.totals
        after = totals.tokens + totals.tokens_unconfirmed + totals.tokens_under_way + n_tokens
        limit = self.budget.crossed_by(after, self.usd_per_token)
        if limit is None:
            return False
        if not totals.under_way:  # what is under way may turn out smaller than it was counted
            self.stop(
                BudgetError(
                    f"The next request would cross the budget of {limit}; {totals.tokens:,} tokens are spent.",
                    next_step="Raise the budget and run again: what is paid for is kept, and only the rest is sent.",
                )
            )
        return True

    def answered(self, permit: Permit, billed: int | None, headers: Mapping[str, str]) -> None:
        """Settle a request whose vectors are on storage."""
        now, totals = self.clock(), self.totals
        self._release(permit)
        self._observe(headers, now)
        totals.requests += 1
        tokens = billed or permit.n_tokens
        totals.tokens += billed or 0
        totals.tokens_unconfirmed += unconfirmed_tokens("ok", permit.n_tokens, billed)
        totals.texts += permit.n_texts
        self._recent.append((now, tokens))
        while self._recent[0][0] < now - _RECENT_S:
            self._recent.popleft()
        if billed:
            self.quota.settle(permit.estimate, billed, now)
            self._ratios.append(billed / max(permit.n_tokens, 1))
        self.concurrency.answered(max(tokens, permit.n_texts), now)

    def failed(self, permit: Permit, error: RequestFailedError) -> None:
        """Settle a request that brought no vectors."""
        now, totals, status = self.clock(), self.totals, error.status
        self._release(permit)
        totals.requests += 1
        # An error page of a proxy tells nothing about limits; it must not pass for a server that has none.
        if read_rate_headers(error.headers):
            self._observe(error.headers, now)
        if status == "rate_limited":
            totals.rate_limited += 1
            self._slow_down(permit, retry_after_s(error.headers), now)
        elif status in ("lost", "unusable", "failed"):
            totals.failed += 1
            totals.tokens_unconfirmed += unconfirmed_tokens(status, permit.n_tokens, error.billed)
            if status != "unusable":  # nonsense is no sign of overload
                self.concurrency.failed(permit.left_at, now)
        if status in ("failed", "refused"):
            # No tokens were used. A server that counts them all the same says so in its headers.
            self.quota.settle(permit.estimate, 0, now)

    def refused(self, said: str) -> None:
        """Count a text that the server refuses for good."""
        self.totals.refused_texts += 1
        n_refused = self.totals.refused_texts
        limits = [self.max_refused, self.max_refused_unanswered if n_refused >= self.totals.texts else None]
        for limit in limits:
            if limit is not None and n_refused > limit:
                return self.stop(_too_many_refused(n_refused, limit, said))

    def not_sent(self, permit: Permit) -> None:
        """Take back a request that never left."""
        self._release(permit)

    @property
    def _upper_ratio(self) -> float:
        """The expected share of our token count that is used, on the safe side; 1 until something is known.

        Where our count is only a bound, quota is taken for what will be used.
        """
        return min(1.0, 1.05 * max(self._ratios)) if len(self._ratios) >= 3 else 1.0

    def _release(self, permit: Permit) -> None:
        self.totals.under_way -= 1
        self.totals.tokens_under_way -= permit.n_tokens
        self._changed.set()

    def _observe(self, headers: Mapping[str, str], now: float) -> None:
        totals = self.totals
        outstanding = {"requests": totals.under_way, "tokens": totals.tokens_under_way * self._upper_ratio}
        self.quota.observe(read_rate_headers(headers), outstanding, now)

    def _slow_down(self, permit: Permit, wait_s: float | None, now: float) -> None:
        if len(self._recent) >= _ENOUGH_ANSWERS:
            per_minute = MINUTE_S / self._recent_span_s()
            self.quota.guess(len(self._recent) * per_minute, self.tokens_per_minute(), now)
        if self.quota.refuse(permit.estimate, wait_s, permit.left_at, now):
            log.warning(
                "the server asks for a slower pace (429): now %.0f%% of the quota, %s tokens in a request",
                100 * self.quota.pace,
                f"{self.request_tokens():,}",
            )

    def _recent_span_s(self) -> float:
        return max(min(_RECENT_S, self.clock() - self._started_at), 1.0)


def _out_of_patience(wait_s: float) -> EmbeddingUnavailableError:
    hours = f"{wait_s / 3600:.1f} hours" if wait_s > 7200 else f"{wait_s / 60:.0f} minutes"
    return EmbeddingUnavailableError(
        f"The quota is used up; the next request may leave in {hours}.",
        next_step="Run the task again then, or raise the key's limits: finished vectors are kept.",
    )


def _too_many_refused(n_refused: int, limit: int, said: str) -> TooManyRefusedError:
    return TooManyRefusedError(
        f"The server refused {n_refused:,} texts for good, more than the {limit:,} that the profile allows; "
        f"the last time it said: {said or 'nothing'}.",
        next_step="Check --model, --dimensions and the texts, or raise embedding.max_refused_share: nothing that "
        "was refused in this run counts as known.",
    )
