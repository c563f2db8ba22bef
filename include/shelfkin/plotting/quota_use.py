"""How well a run used its quota: tokens a minute over time, against the limit, with the refusals for speed marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from shelfkin.plotting import style

# Bars enough to see a stall, few enough to be read.
_MAX_BARS = 120
_SHORTEST_BIN_S = 1.0


def draw_quota_use(requests: Sequence[Mapping[str, Any]], limit_tokens_per_minute: float | None) -> Figure:
    """Return tokens a minute over the time of a run.

    Parameters
    ----------
    requests
        Rows of ``embedding_ledger``: requested_at (datetime), latency_s, n_tokens, n_tokens_billed, status.
    limit_tokens_per_minute
        The limit, or None.
    """
    left = np.array([row["requested_at"].timestamp() for row in requests])
    tokens = np.array([_tokens(row) for row in requests], dtype=float)
    slowed = np.array([row["status"] == "rate_limited" for row in requests])
    begin = left.min()
    ends = left + np.array([row["latency_s"] or 0.0 for row in requests])
    span_s = max(float(ends.max() - begin), _SHORTEST_BIN_S)
    bin_s = max(span_s / _MAX_BARS, _SHORTEST_BIN_S)
    edges = np.arange(0, span_s + bin_s, bin_s)
    per_bin, _ = np.histogram(left - begin, bins=edges, weights=tokens)
    unit_s, unit = (60.0, "minutes") if span_s > 180 else (1.0, "seconds")
    per_minute = per_bin / bin_s * 60

    figure, axes = style.new_figure(height_in=4.2)
    axes.bar(edges[:-1] / unit_s, per_minute, width=bin_s / unit_s, align="edge", color=style.BLUE, linewidth=0)
    if limit_tokens_per_minute:
        axes.axhline(limit_tokens_per_minute, color=style.INK, linewidth=1.2)
        beside = axes.get_yaxis_transform()
        label = f"limit {limit_tokens_per_minute:,.0f} "
        axes.text(1, limit_tokens_per_minute, label, transform=beside, ha="right", va="bottom", fontsize=style.NOTE_PT)
    if slowed.any():
        axes.plot(
            (left[slowed] - begin) / unit_s,
            np.zeros(slowed.sum()),
            marker="^",
            linestyle="none",
            color=style.ORANGE,
            markersize=8,
            clip_on=False,
            label="429: not so fast",
        )
        axes.legend(frameon=False, fontsize=style.NOTE_PT, loc="upper left")
    axes.set_xlim(0, max(span_s, bin_s) / unit_s)
    axes.set_ylim(0, max(per_minute.max(), limit_tokens_per_minute or 0.0, 1.0) * 1.18)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    style.set_labels(axes, f"{unit} since the first request", "tokens a minute")
    style.set_title(axes, _finding(tokens.sum(), span_s, limit_tokens_per_minute, int(slowed.sum())), _detail(requests))
    return figure


def _tokens(row: Mapping[str, Any]) -> float:
    if row["status"] != "ok":
        return 0.0
    return float(row["n_tokens"] if row["n_tokens_billed"] is None else row["n_tokens_billed"])


def _finding(n_tokens: float, span_s: float, limit: float | None, n_slowed: int) -> str:
    requests = "no request" if n_slowed == 0 else "1 request" if n_slowed == 1 else f"{n_slowed:,} requests"
    refusals = f"{requests} refused for speed"
    if limit and span_s >= 60:
        return f"{n_tokens / span_s * 60 / limit:.0%} of the token quota used, {refusals}"
    return f"{n_tokens:,.0f} tokens in {span_s:,.0f} s, {refusals}"


def _detail(requests: Sequence[Mapping[str, Any]]) -> str:
    n_texts = sum(int(row["n_inputs"]) for row in requests if row["status"] == "ok")
    return f"{len(requests):,} requests, {n_texts:,} texts"
