"""How many requests may be under way at once."""

from __future__ import annotations

from dataclasses import dataclass

# Answers are looked at in windows this long (and at least two rounds of requests): shorter ones are all noise.
_WINDOW_S = 1.0
# A change of throughput below this share is noise too.
_NOISE = 0.05
# After this many windows without a gain, one more request is tried: the server may have grown.
_TRY_AGAIN_WINDOWS = 30


@dataclass
class ConcurrencyLimit:
    """A limit that climbs while more requests under way bring more tokens a second, and falls when requests fail.

    Where a quota is known it paces the requests, and how many are under way follows from their latency (Little 1961,
    L = lambda W): then only failures lower the limit below `highest`. Where nothing paces, the limit climbs the hill of
    throughput one step at a time, and stays where a step no longer pays.

    Attributes
    ----------
    limit
        Requests that may be under way.
    paced
        Whether a known quota paces the requests.
    """

    highest: int = 64
    limit: float = 2.0
    paced: bool = False
    _lowered_at: float = float("-inf")
    _window_at: float | None = None
    _work: float = 0.0
    _answers: int = 0
    _best: float = 0.0
    _idle_windows: int = 0
    _trying: bool = False

    def answered(self, work: float, now: float) -> None:
        """Take note of an answer of `work` tokens at the clock's time `now`."""
        if self.paced:
            self.limit = min(self.highest, self.limit + 1)  # back up after failures
            return
        if self._window_at is None:
            self._window_at = now
            return
        self._work, self._answers = self._work + work, self._answers + 1
        elapsed = now - self._window_at
        if elapsed < _WINDOW_S or self._answers < 2 * self.limit:
            return
        self._judge(self._work / elapsed)
        self._window_at, self._work, self._answers = now, 0.0, 0

    def failed(self, left_at: float, now: float) -> None:
        """Take note of a time-out, a reset or a server error at `now`: a third fewer.

        Requests that left before the last step down were sent at the old limit, and tell nothing about the new one.
        """
        if left_at <= self._lowered_at:
            return
        self._lowered_at = now
        self.limit = max(1.0, self.limit * 2 / 3)
        self._best = 0.0

    def _judge(self, throughput: float) -> None:
        if throughput > self._best * (1 + _NOISE):
            self._best, self._idle_windows, self._trying = throughput, 0, False
            self.limit = min(self.highest, self.limit + max(1.0, self.limit // 4))
            return
        self._idle_windows += 1
        if self._trying:
            self._trying = False
            self.limit = max(1.0, self.limit - 1)
        if throughput < self._best * (1 - 4 * _NOISE):
            # The last steps did harm, or the server got slower: a step down, and a new comparison.
            self._best = throughput
            self.limit = max(1.0, self.limit - 1)
        elif self._idle_windows >= _TRY_AGAIN_WINDOWS:
            self._idle_windows, self._trying = 0, True
            self.limit = min(self.highest, self.limit + 1)
