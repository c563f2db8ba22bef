"""What a server says about its limits in the headers of an answer."""

from __future__ import annotations

import email.utils
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


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
            return 60.0
        return min(60.0, self.remaining / self.limit * 60.0 + self.reset_s)

    @property
    def filled(self) -> float | None:
        """Share of the server's bucket that is left, or None."""
        return None if self.remaining is None else self.remaining / max(self.limit * self.holds_s / 60.0, 1.0)


@dataclass(frozen=True)
class RateHeaders:
    """The limits named in one answer; None where the server says nothing."""

    requests: Allowance | None = None
    tokens: Allowance | None = None


def read_rate_headers(headers: Mapping[str, str]) -> RateHeaders:
    """Read ``x-ratelimit-{limit,remaining,reset}-{requests,tokens}`` (OpenAI API reference, "Debugging requests")."""
    return RateHeaders(_allowance(headers, "requests"), _allowance(headers, "tokens"))


def _allowance(headers: Mapping[str, str], what: str) -> Allowance | None:
    limit = number(headers.get(f"x-ratelimit-limit-{what}"))
    if not limit:
        return None
    remaining = number(headers.get(f"x-ratelimit-remaining-{what}"))
    return Allowance(limit, remaining, duration_s(headers.get(f"x-ratelimit-reset-{what}")))


def duration_s(text: str | None) -> float | None:
    """Return seconds of a duration like ``6m0s``, ``20ms`` or ``8.64s``; a bare number is seconds; None otherwise."""
    if text is None:
        return None
    bare = number(text)
    if bare is not None:
        return bare
    parts = _PART.findall(text)
    if not parts or "".join(value + unit for value, unit in parts) != text.strip():
        return None
    return sum(float(value) * _UNITS_S[unit] for value, unit in parts)


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
    seconds = number(value)
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
