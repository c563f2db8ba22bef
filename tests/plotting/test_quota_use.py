"""The picture of the quota's use says what the ledger says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shelfkin.plotting.quota_use import draw_quota_use

BEGIN = datetime(2026, 11, 24, tzinfo=UTC)


def request(second: float, tokens: int = 1000, status: str = "ok") -> dict:
    return {
        "requested_at": BEGIN + timedelta(seconds=second),
        "latency_s": 0.5,
        "n_inputs": 50,
        "n_tokens": tokens,
        "n_tokens_billed": tokens if status == "ok" else None,
        "status": status,
    }


def test_bars_hold_all_billed_tokens_and_refusals_are_marked() -> None:
    rows = [request(second) for second in range(100)] + [request(40, status="rate_limited"), request(7, status="lost")]
    figure = draw_quota_use(rows, 60_000)
    axes = figure.axes[0]
    assert sum(bar.get_height() * bar.get_width() for bar in axes.patches) / 60 == pytest.approx(100_000)
    # One second at 1,000 tokens is 60,000 a minute: the limit's line.
    assert max(bar.get_height() for bar in axes.patches) <= 120_000
    (marks,) = [line for line in axes.lines if line.get_marker() == "^"]
    assert list(marks.get_xdata()) == [40]
    assert figure.get_suptitle() == "101% of the token quota used, 1 request refused for speed"


def test_a_run_of_an_instant_can_be_drawn() -> None:
    figure = draw_quota_use([request(0)], None)
    assert "1,000 tokens in 1 s, no request refused for speed" in figure.get_suptitle()
