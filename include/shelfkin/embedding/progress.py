"""Telling a person who follows the log how far the embedding is, how fast, and what it has cost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shelfkin.embedding.coordinator import Coordinator
from shelfkin.embedding.texts import Plan

# Soon enough to see that it works, then less and less: a load of hours is not a log of thousands of lines.
_FIRST_S, _LONGEST_S, _SLOWER = 5.0, 60.0, 1.5


@contextmanager
def report_progress(coordinator: Coordinator, plan: Plan, progress: Callable[..., None]) -> Iterator[None]:
    """Tell at a calm pace how far a run is, until the block ends."""
    finished = threading.Event()
    started = time.monotonic()

    def report() -> None:
        pause_s = _FIRST_S
        while not finished.wait(pause_s):
            progress(line(coordinator, plan, time.monotonic() - started))
            pause_s = min(_LONGEST_S, pause_s * _SLOWER)

    reporter = threading.Thread(target=report, name="embedding-progress", daemon=True)
    reporter.start()
    try:
        yield
    finally:
        finished.set()
        reporter.join()


def line(coordinator: Coordinator, plan: Plan, elapsed_s: float) -> str:
    """Return one line: texts, speed against the limit, what is left, and the cost so far."""
    totals = coordinator.totals
    n_done = totals.texts + totals.refused_texts
    if not n_done:
        return f"0 of {plan.n_texts:,} texts, the first answers are on their way"
    parts = [f"embedded {n_done:,} of {plan.n_texts:,} texts"]
    requests_limit, tokens_limit = coordinator.limits()
    speed = coordinator.tokens_per_minute()
    if tokens_limit:
        parts.append(f"{speed:,.0f} tokens/min of {tokens_limit:,.0f}")
    elif requests_limit:
        parts.append(f"{totals.requests / elapsed_s * 60:,.0f} requests/min of {requests_limit:,.0f}")
    else:
        parts.append(f"{n_done / elapsed_s:,.0f} texts/s")
    parts.append(f"about {duration((plan.n_texts - n_done) / n_done * elapsed_s)} left")
    if coordinator.spent_usd():
        parts.append(f"${coordinator.spent_usd():,.4f} so far")
    if totals.rate_limited:
        parts.append(f"{totals.rate_limited:,} times refused for speed")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Return a time as a person says it: 40 s, 5 min, 2.5 h."""
    if seconds < 120:
        return f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
