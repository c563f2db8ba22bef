"""What a server says about its limits in the headers of an answer."""

from __future__ import annotations

import email.utils
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import pandas as pd

MINUTE_S, DAY_S = 60.0, 86_400.0


@dataclass(frozen=True)
class Allowance:
    """One limit as a server reports it: its size, what is left of it, and seconds until it is whole again."""

    limit: float
    remaining: float | None = None
    reset_s: float | None = None

    @property
    def holds_s(self) -> float:
        """Seconds' worth of a minute's limit that the server's bucket holds: 60, or less where it counts by the second.

        What is left, and what comes back until the bucket is whole again, are all of it.
        """
        if self.remaining is None or self.reset_s is None:
            return MINUTE_S
        return min(MINUTE_S, self.remaining / self.limit * MINUTE_S + self.reset_s)

    @property
    def period_s(self) -> float:
        """Whether the limit is per minute (60) or per day (86,400).

        The headers don't say. A bucket that refills over a day tells by its reset time: ``used / limit`` of a day
        (OpenAI's lower tiers: limit 10,000, 9,999 left, reset in 8.64 s). Anything else is a minute's.
        """
        if self.remaining is None or not self.reset_s or self.remaining >= self.limit:
            return MINUTE_S
        whole_s = self.reset_s * self.limit / (self.limit - self.remaining)
        return DAY_S if abs(whole_s / DAY_S - 1) < 0.01 else MINUTE_S

    @property
    def filled(self) -> float | None:
        """Share of the server's bucket that is left, or None."""
        return None if self.remaining is None else self.remaining / max(self.limit * self.holds_s / MINUTE_S, 1.0)


def read_rate_headers(headers: Mapping[str, str]) -> dict[str, Allowance]:
    """Read ``x-ratelimit-{limit,remaining,reset}-{requests,tokens}`` (OpenAI API reference, "Debugging requests").

    The result has the keys ``requests`` and ``tokens``, where the server says something of them.
    """
    allowances = {what: _allowance(headers, what) for what in ("requests", "tokens")}
    return {what: allowance for what, allowance in allowances.items() if allowance is not None}


def _allowance(headers: Mapping[str, str], what: str) -> Allowance | None:
    limit = number(headers.get(f"x-ratelimit-limit-{what}"))
    if not limit:
        return None
    remaining = number(headers.get(f"x-ratelimit-remaining-{what}"))
    return Allowance(limit, remaining, duration_s(headers.get(f"x-ratelimit-reset-{what}")))


def duration_s(text: str | None) -> float | None:
    """Return seconds of a duration like ``6m0s``, ``20ms`` or ``8.64s``; a bare number is seconds; None otherwise."""
    seconds = number(text)
    if seconds is not None or text is None:
        return seconds
    try:
        return number(str(pd.Timedelta(text.split(",")[0]).total_seconds()))
    except ValueError:
        return None


def retry_after_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return the seconds that a server asks to wait, or None.

    Understands ``retry-after-ms`` (OpenAI) and ``Retry-After`` in seconds or as an HTTP date (RFC 9110, 10.2.3).
    """
    milliseconds = number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    if value is None:
        return None
    seconds = duration_s(value)
    if seconds is not None:
        return seconds
    try:
        date = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())


def number(text: str | None) -> float | None:
    """Return a finite number that isn't negative, or None; the first one of a header that two proxies wrote."""
    try:
        value = float(text.split(",")[0]) if text is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
