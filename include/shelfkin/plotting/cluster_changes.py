"""What each cluster won and lost since the day before."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from shelfkin.plotting import style

# The clusters that changed most; a longer list isn't read.
MAX_BARS = 18

_NAME_CHARS = 32
_DETAIL_CHARS = 62
# Room for the figures beside the longest bars: a share of the axis for each character.
_CHARACTER = 0.03

# Left of the line is what went, right of it what came; the darker part moved between clusters.
_PARTS = (
    ("n_left", -1, style.ORANGE, "went to another cluster"),
    ("n_gone", -1, style.AMBER, "left the catalogue"),
    ("n_came", 1, style.BLUE, "came from another cluster"),
    ("n_new", 1, style.SKY, "new in the catalogue"),
)


def draw_cluster_changes(changes: pd.DataFrame, *, title: str, detail: str = "") -> Figure:
    """Return bars of what came and what went, for the clusters that changed most.

    Parameters
    ----------
    changes
        One row per cluster of either day: name, fate (what happened to it as a whole, such as ``born``; empty for one
        that lives on), and in products n_stayed, n_came, n_left, n_new and n_gone, as in `clustering.drift.Drift`.
    title
        The finding.
    """
    n_changed = changes[[part for part, *_ in _PARTS]].sum(axis=1)
    changed = changes.assign(n_changed=n_changed)[n_changed > 0]
    if changed.empty:
        return _nothing_changed(len(changes), title, detail)
    bars = changed.sort_values(["n_changed", "name"], ascending=[False, True])[:MAX_BARS]
    figure, axes = style.new_figure(height_in=2.9 + 0.33 * len(bars), width_in=9.0)
    _draw_parts(axes, bars)
    _write_kept(axes, bars)
    labels = [_label(name, fate) for name, fate in zip(bars["name"], bars["fate"], strict=True)]
    style.name_bars(axes, labels)
    axes.set_ylim(len(bars) - 0.4, -1.2)
    axes.spines["left"].set_visible(False)
    axes.axvline(0, color=style.INK, linewidth=1.2, zorder=3)
    style.set_labels(axes, "went  ←  products  →  came", "")
    figure.legend(
        loc="outside lower center", ncols=2, frameon=False, fontsize=style.NOTE_PT, handlelength=1.2, columnspacing=2
    )
    style.set_title(axes, title)
    if len(changed) > len(bars):
        detail = f"{detail}; shown: the {len(bars)} of {len(changed)} changed clusters that changed most"
    # The area beside the names is narrow.
    axes.set_title(style.wrap(detail, _DETAIL_CHARS, max_lines=2), loc="left", fontsize=style.NOTE_PT, color=style.GREY)
    return figure


def _draw_parts(axes: Axes, bars: pd.DataFrame) -> None:
    """Draw the bars with their figures beside them, and leave room for these."""
    ends = {-1: np.zeros(len(bars), dtype=np.int64), 1: np.zeros(len(bars), dtype=np.int64)}
    for part, side, colour, label in _PARTS:
        values = side * bars[part].to_numpy()
        if values.any():
            # Edges keep the two parts apart in grey print too.
            axes.barh(
                range(len(bars)), values, left=ends[side], color=colour, height=0.72, edgecolor="white", linewidth=0.5,
                label=label,
            )  # fmt: skip
            ends[side] += values
    figures = {
        side: [f"{sign}{abs(end):,}" if end else "" for end in ends[side]] for side, sign in ((-1, "−"), (1, "+"))
    }
    for side, texts in figures.items():
        style.write_behind_bars(axes, ends[side].tolist(), texts)
    low, high = int(ends[-1].min()), int(ends[1].max())
    room = {side: _CHARACTER * max(map(len, texts)) * (high - low) for side, texts in figures.items()}
    axes.set_xlim(low - room[-1], high + room[1])
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: _short(abs(n))))


def _write_kept(axes: Axes, bars: pd.DataFrame) -> None:
    """Write how many products stayed in a column at the right edge."""
    column = axes.secondary_yaxis("right")
    column.spines["right"].set_visible(False)
    column.tick_params(length=0, labelsize=style.NOTE_PT - 1, labelcolor=style.INK)
    column.set_yticks([-0.85, *range(len(bars))], labels=["kept", *(f"{n:,}" for n in bars["n_stayed"])])
    column.get_yticklabels()[0].set_fontweight("bold")


def _short(n: float) -> str:
    return f"{n / 1e6:g}M" if n >= 1e6 else f"{n:,.0f}"


def _label(name: str, fate: str) -> str:
    shown = style.safe_text(name, _NAME_CHARS) or "(no name)"
    return f"{shown} ({fate})" if fate else shown


def _nothing_changed(n_clusters: int, title: str, detail: str) -> Figure:
    figure, axes = style.new_figure(height_in=2.4)
    axes.set_axis_off()
    finding = f"All {n_clusters} clusters hold the same products as before."
    axes.text(0, 0.5, finding, transform=axes.transAxes, va="center", fontsize=style.LABEL_PT, color=style.INK)
    style.set_title(axes, title, detail)
    return figure
