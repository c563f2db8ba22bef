"""One key's quota: buckets of requests and tokens that refill all the time, steered by what the server says.

Plain arithmetic on a clock that the caller passes in (seconds, monotonic): no threads, no sleeping.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from shelfkin.embedding.rate_headers import DAY_S, MINUTE_S, Allowance
from shelfkin.profile import Embedding

# A request before any limit is known: large enough to be worth its round trip, small enough for the lowest tier.
PROBE_TOKENS = 8_000

# Servers differ in how much may come at once: a minute's worth, or a second's. Half of what a server's bucket holds
# leaves it room for jitter. Below a quarter of a second requests would be too small to be worth their round trips.
_LEAST_BURST_S, _BURST_SHARE = 0.25, 0.5
# A request holds at most a second's worth, and so does a new bucket: the first ones pass such a server too. What is
# saved up beyond that makes up for time that we lost ourselves.
_REQUEST_S = 1.0
# Of a server that names no limits and refuses: its requests get smaller, but not below a few dozen titles.
_LEAST_TOKENS = 500
# When the burst is as small as that, a 429 slows the pace to 70%. It climbs back by 1% of the full pace a second: about
# half a minute, so that a key that somebody else uses too is shared at about 1 refused request a minute.
_SLOWER, _RECOVERY_PER_S, _SLOWEST = 0.7, 0.01, 0.05
# A limit that was guessed from refusals grows by this share a second until the server refuses again, which lowers it to
# this share at most: the throughput of a minute that was itself slowed down says little about the limit.
_GROWTH_PER_S, _GUESS_KEEPS = 0.01, 0.7
# A server whose bucket is fuller than this isn't used by anybody else; below, its own count is the truth.
_LOW_WATER = 0.1
# With this much left by the server's own count a 429 is not about our pace. Its word holds for a few seconds.
_PLENTY, _PLENTY_HOLDS_S = 0.5, 5.0
# A request is larger than its fair share of the request limit by this much, so that tokens bind and not requests.
_FILL = 1.25


@dataclass
class _Window:
    """One kind of limit (requests or tokens) over one period, as a token bucket (Turner 1986, "New directions ...").

    The bucket holds at most `capacity` and refills by `per_s`.

    Attributes
    ----------
    available
        What may leave at once; below 0 after a request that is larger than the bucket. None: no limit is known.
    at
        The moment that `available` is of.
    """

    period_s: float
    configured: float | None
    learned: float | None = None
    per_s: float = 0.0
    capacity: float = 0.0
    available: float | None = None
    at: float = 0.0

    @property
    def limit(self) -> float | None:
        known = [limit for limit in (self.configured, self.learned) if limit is not None]
        return min(known, default=None)

    def add(self, amount: float) -> None:
        """Put in (or, below 0, take out) what may leave."""
        if self.available is not None:
            self.available = min(self.capacity, self.available + amount)

    def lower(self, most: float) -> None:
        """Leave at most `most` in the bucket."""
        if self.available is not None:
            self.available = min(self.available, most)

    def refill(self, now: float, pace: float) -> None:
        """Add what has come in since the last look, at a share `pace` of a minute's rate."""
        self.add(max(0.0, now - self.at) * self._rate(pace))
        self.at = max(self.at, now)

    def wait_s(self, cost: float, pace: float) -> float:
        """Return the seconds until `cost` may leave; what exceeds the bucket leaves when it is full."""
        if self.available is None:
            return 0.0
        lacking = min(cost, self.capacity) - self.available
        # Less than a millionth of a token is rounding, not lack: waiting for it would never end.
        return 0.0 if lacking <= 1e-6 else lacking / self._rate(pace)

    def _rate(self, pace: float) -> float:
        return self.per_s * (pace if self.period_s == MINUTE_S else 1.0)


class Quota:
    """How fast requests may leave.

    Requests leave at the limit's average rate, with `burst_s` seconds' worth saved up at most: servers that count by
    the second or by the minute both see a steady stream, and a server's own full bucket is left to absorb jitter.

    Parameters
    ----------
    section
        The profile's section with the limits that the user knows. What the server says can only lower them.
    now
        The clock's time.

    Attributes
    ----------
    known
        Whether an answer has shown what the server says of its limits, and of how much may come at once.
    burst_s
        Seconds' worth of quota that may leave at once; what the server says or refuses can only lower it.
    pace
        Share of the full rate; below 1 after refusals.
    resume_at
        When the server takes requests again, by its own word.
    """

    def __init__(self, section: Embedding, *, now: float = 0.0) -> None:
        self.known = False
        self.burst_s, self.pace, self.resume_at = section.quota_burst_s, 1.0, -math.inf
        self.max_tokens_per_request = section.max_tokens_per_request
        self._headroom = section.quota_headroom
        self._windows = {
            ("requests", MINUTE_S): _Window(MINUTE_S, section.requests_per_minute),
            ("tokens", MINUTE_S): _Window(MINUTE_S, section.tokens_per_minute),
            ("requests", DAY_S): _Window(DAY_S, section.requests_per_day),
            ("tokens", DAY_S): _Window(DAY_S, section.tokens_per_day),
        }
        self._guessed = False
        self._slowed_at, self._plenty_until, self._recovered_at = -math.inf, -math.inf, now
        self._resize(now)

    def limit(self, what: str, period_s: float = MINUTE_S) -> float | None:
        """Return the limit of ``requests`` or ``tokens`` in a period, or None."""
        return self._windows[what, period_s].limit

    def request_tokens(self) -> int:
        """Return how many tokens the next request should hold."""
        wanted = self._wanted_tokens()
        return wanted if self.known else min(PROBE_TOKENS, wanted)

    def _wanted_tokens(self) -> int:
        """Return how many tokens a request should hold by the limits that are known."""
        tokens, requests = self.limit("tokens"), self.limit("requests")
        if tokens is None:
            return self.max_tokens_per_request
        size = tokens / MINUTE_S * min(self.burst_s, _REQUEST_S)
        if requests is not None:
            size = max(size, _FILL * tokens / requests)
        return int(max(1, min(size, tokens * (1 - self._headroom), self.max_tokens_per_request)))

    def wait_s(self, n_tokens: float, now: float) -> float:
        """Return the seconds until a request of `n_tokens` may leave; 0: now."""
        self._refill(now)
        waits = [window.wait_s(cost, self.pace) for window, cost in self._costs(n_tokens)]
        return max(0.0, self.resume_at - now, *waits)

    def blocked_s(self, n_tokens: float, now: float) -> float:
        """Return the part of `wait_s` that isn't mere pacing: the server's own word, and limits of a day."""
        self._refill(now)
        days = [window.wait_s(cost, 1.0) for window, cost in self._costs(n_tokens) if window.period_s == DAY_S]
        return max(0.0, self.resume_at - now, *days)

    def take(self, n_tokens: float, now: float) -> None:
        """Count a request that leaves now."""
        self._refill(now)
        for window, cost in self._costs(n_tokens):
            window.add(-cost)

    def settle(self, n_estimated: float, n_used: float, now: float) -> None:
        """Correct the count of a request's tokens when the server has said how many they were."""
        self._refill(now)
        for period_s in (MINUTE_S, DAY_S):
            self._windows["tokens", period_s].add(n_estimated - n_used)

    def observe(self, allowances: Mapping[str, Allowance], outstanding: Mapping[str, float], now: float) -> None:
        """Learn from an answer's headers.

        Parameters
        ----------
        allowances
            What the server says (`read_rate_headers`).
        outstanding
            ``requests`` and ``tokens`` that have left and aren't answered: the server may or may not have counted them.
        now
            The clock's time.
        """
        self.known = True
        self._refill(now)
        shares = [allowance.filled for allowance in allowances.values() if allowance.filled is not None]
        if shares:
            self._plenty_until = now + _PLENTY_HOLDS_S if min(shares) > _PLENTY else -math.inf
        for what, allowance in allowances.items():
            window = self._windows[what, allowance.period_s]
            self._guessed = False
            window.learned = allowance.limit
            if window.period_s == MINUTE_S:
                self.burst_s = min(self.burst_s, max(_LEAST_BURST_S, _BURST_SHARE * allowance.holds_s))
            self._resize(now)
            # Nearly empty although we leave it full: others use it too, and what they took isn't in our count. A bucket
            # of a second's worth is empty after each of our own requests.
            remaining, whole = allowance.remaining, window.period_s == DAY_S or allowance.holds_s > MINUTE_S / 2
            if whole and remaining is not None and remaining < _LOW_WATER * allowance.limit:
                window.lower(remaining - outstanding[what])

    def refuse(self, n_tokens: float, wait_s: float | None, left_at: float, now: float) -> bool:
        """Take note of a 429 (rate limit); return whether it was news.

        A server that refuses although the average rate is kept takes less at once than was thought: what may leave at
        once is halved. Only when that is small already does the pace drop. Requests that left before the last such step
        (as in TCP NewReno, RFC 6582), or were packed before it, tell nothing new, but their wait holds.

        Parameters
        ----------
        n_tokens
            Size of the refused request.
        wait_s
            What the server asks to wait, or None.
        left_at
            When the refused request left.
        """
        self._refill(now)
        self.known = True
        if wait_s is not None:
            self.resume_at = max(self.resume_at, now + wait_s)
        elif self._plenty_until > now:
            return False  # the server's own count says that it wasn't us: it is overloaded, or makes no sense
        for what in ("requests", "tokens"):
            # Whichever limit it was, nothing is saved up any more.
            self._windows[what, MINUTE_S].lower(0.0)
        if left_at <= self._slowed_at or n_tokens > self.request_tokens():
            return False
        self._slowed_at = now
        if self.limit("requests") is None and self.limit("tokens") is None:
            self.max_tokens_per_request = min(self.max_tokens_per_request, max(_LEAST_TOKENS, int(n_tokens / 2)))
        elif self.burst_s > _LEAST_BURST_S and not self._guessed:
            tokens = self.limit("tokens")
            worth_s = n_tokens / tokens * MINUTE_S if tokens else math.inf
            self.burst_s = max(_LEAST_BURST_S, min(self.burst_s, worth_s) / 2)
            self._resize(now)
        else:
            self.pace = max(_SLOWEST, self.pace * _SLOWER)
        return True

    def shrink(self, n_tokens: float) -> None:
        """Send no more requests as large as this one: its size was refused, and waiting didn't help."""
        self.max_tokens_per_request = max(1, min(self.max_tokens_per_request, int(n_tokens / 2)))

    def guess(self, requests_per_minute: float, tokens_per_minute: float, now: float) -> None:
        """Take the throughput at which a server refuses for its limit, if it names none; the guess grows with time."""
        minute = [self._windows[what, MINUTE_S] for what in ("requests", "tokens")]
        if not self._guessed and any(window.limit is not None for window in minute):
            return
        self._refill(now)
        self._guessed = True
        for window, rate in zip(minute, (requests_per_minute, tokens_per_minute), strict=True):
            window.learned = max(rate, _GUESS_KEEPS * (window.learned or 0.0), 1.0)
        self._resize(now)

    def _costs(self, n_tokens: float) -> list[tuple[_Window, float]]:
        """Return what a request costs in every window."""
        return [(window, 1.0 if what == "requests" else n_tokens) for (what, _), window in self._windows.items()]

    def _refill(self, now: float) -> None:
        if self._guessed and self.pace >= 1.0 and now > self._recovered_at:
            for window in self._windows.values():
                if window.learned is not None:
                    window.learned *= (1 + _GROWTH_PER_S) ** min(now - self._recovered_at, MINUTE_S)
            self._resize(now)
        for window in self._windows.values():
            window.refill(now, self.pace)
        since = now - max(self._recovered_at, self._slowed_at)
        if self.pace < 1.0 and since > 0:
            self.pace = min(1.0, self.pace + _RECOVERY_PER_S * since)
        self._recovered_at = now

    def _resize(self, now: float) -> None:
        """Make or change the buckets after a limit became known."""
        for (what, _), window in self._windows.items():
            if window.limit is None:
                continue
            largest = self._wanted_tokens() if what == "tokens" else 1.0
            # A day's limit is a store to draw from, a minute's is a pace to keep.
            of_a_day = window.period_s == DAY_S
            window.per_s = window.limit * (1 - self._headroom) / window.period_s
            window.capacity = max(window.per_s * (DAY_S if of_a_day else self.burst_s), largest)
            if window.available is None:
                window.available, window.at = math.inf if of_a_day else max(largest, window.per_s * _REQUEST_S), now
            window.lower(window.capacity)
