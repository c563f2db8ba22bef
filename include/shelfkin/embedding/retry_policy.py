"""How long to wait before a failed request is tried again, and when trying ends.

`failures` says which requests are worth another try.

Full jitter below an exponential cap (Brooker 2015, AWS Architecture Blog, "Exponential backoff and jitter"), never
sooner than Retry-After says.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from shelfkin.embedding.failures import RETRYABLE, RequestFailedError
from shelfkin.embedding.packing import Text
from shelfkin.embedding.rate_headers import retry_after_s

log = logging.getLogger("shelfkin.embedding")

_BACKOFF_BASE_S, _BACKOFF_CAP_S = 0.5, 30.0


class Deadline:
    """Ends retrying a batch and its parts when the next try would begin later than `deadline_s` after a first failure.

    Attributes
    ----------
    queued_s
        Time spent in the queue for the quota, which doesn't count: the queue is as long as the quota is small.
    n_answered
        Texts of the run that had been answered at the first failure.
    in_parts, later
        Whether the batch is sent in parts, and its texts that wait for the others: these tell whether the server works.
    """

    def __init__(self, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self._first_failure: float | None = None
        self.queued_s = 0.0
        self.n_answered: int | None = None
        self.in_parts, self.later = False, list[Text]()

    def restart(self) -> None:
        """Count from the next failure: a part of the batch has been answered."""
        self._first_failure = None

    @staticmethod
    def now() -> float:
        """Return the event loop's time."""
        return asyncio.get_running_loop().time()

    def __call__(self, state: RetryCallState) -> bool:
        now = self.now() - self.queued_s
        if self._first_failure is None:
            self._first_failure = now
        return now - self._first_failure + state.upcoming_sleep > self.deadline_s


def retrying(deadline: Deadline, pause: Callable[[float], Awaitable[None]]) -> AsyncRetrying:
    """Return tenacity's loop over the tries of one request; `pause` waits between two of them."""
    return AsyncRetrying(
        retry=retry_if_exception(lambda error: isinstance(error, RequestFailedError) and error.status in RETRYABLE),
        wait=_wait_s,
        stop=deadline,
        sleep=pause,
        before_sleep=_log,
        reraise=True,
    )


def _wait_s(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    jitter = random.uniform(0, min(_BACKOFF_CAP_S, _BACKOFF_BASE_S * 2**state.attempt_number))
    asked = retry_after_s(error.headers) if isinstance(error, RequestFailedError) else None
    if asked is None:
        return jitter
    if isinstance(error, RequestFailedError) and error.status == "rate_limited":
        return 0.0  # the quota holds all requests back until then
    # After the time that the server named, a little jitter keeps requests that were refused together apart.
    return asked + min(jitter, 1.0)


def _log(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, RequestFailedError) and error.status != "rate_limited":
        log.warning("request failed (%s); next try in %.1f s", error.said, state.upcoming_sleep)
