"""Telling a person who follows the log how far the embedding is, how fast, and what it has cost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from shelfkin.embedding.admission import Admission

# Soon enough to see that it works, then less and less: a load of hours is not a log of thousands of lines.
_FIRST_S, _LONGEST_S, _SLOWER = 5.0, 60.0, 1.5


async def report_progress(admission: Admission, n_texts: int, progress: Callable[..., None]) -> None:
    """Tell at a calm pace how far a run of `n_texts` is, until the task is cancelled."""
    clock = asyncio.get_running_loop().time
    started, pause_s = clock(), _FIRST_S
    while True:
        await asyncio.sleep(pause_s)
        progress(progress_line(admission, n_texts, clock() - started))
        pause_s = min(_LONGEST_S, pause_s * _SLOWER)


def progress_line(admission: Admission, n_texts: int, elapsed_s: float) -> str:
    """Return one line: texts, speed against the limit, what is left, and the cost so far."""
    totals = admission.totals
    n_done = totals.texts + totals.refused_texts
    if not n_done:
        return f"0 of {n_texts:,} texts, the first answers are on their way"
    parts = [f"embedded {n_done:,} of {n_texts:,} texts"]
    requests_limit, tokens_limit = admission.limits()
    if tokens_limit:
        parts.append(f"{admission.tokens_per_minute():,.0f} tokens/min of {tokens_limit:,.0f}")
    elif requests_limit:
        parts.append(f"{totals.requests / elapsed_s * 60:,.0f} requests/min of {requests_limit:,.0f}")
    else:
        parts.append(f"{n_done / elapsed_s:,.0f} texts/s")
    parts.append(f"about {duration((n_texts - n_done) / n_done * elapsed_s)} left")
    if admission.spent_usd():
        parts.append(f"${admission.spent_usd():,.4f} so far")
    if totals.rate_limited:
        parts.append(f"{totals.rate_limited:,} times refused for speed")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Return a time as a person says it: 40 s, 5 min, 2.5 h."""
    if seconds < 120:
        return f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
