"""Why this k: inertia, silhouette and stability over k in one picture, with the chosen k through all three."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from shelfkin.plotting import style

# Labels of k closer than this ratio would touch.
_LABEL_RATIO = 1.18

# Columns that are drawn, each in a panel of its own.
_PANELS = (
    ("mean_squared_distance", "lower is tighter"),
    ("silhouette", "higher is better separated"),
    ("stability", "higher comes out again"),
)


def draw_k_choice(
    scores: pd.DataFrame, chosen_k: int, candidates: Sequence[int], *, title: str, detail: str = ""
) -> Figure:
    """Return one panel per measure, one above the other, over a common logarithmic axis of k.

    Parameters
    ----------
    scores
        One row per k, ascending: k, mean_squared_distance, silhouette, stability, and the standard errors
        silhouette_se and stability_se, drawn as bars. NaN where a measure is undefined.
    chosen_k
        One of them.
    candidates
        The k among which the decision fell; their range is shaded.
    title
        The finding.
    """
    figure, first = style.new_figure(height_in=2.1 * len(_PANELS) + 1.6)
    first.remove()
    panels = figure.subplots(len(_PANELS), 1, sharex=True)
    by_k = scores.set_index("k").astype(float)
    for axes, (measure, better) in zip(panels, _PANELS, strict=True):
        style.dress(axes)
        _draw_curve(axes, by_k[measure].dropna(), by_k.get(f"{measure}_se"), chosen_k)
        if len(candidates) > 1:
            axes.axvspan(candidates[0], candidates[-1], color=style.AMBER, alpha=0.18, linewidth=0, zorder=0)
        axes.axvline(chosen_k, color=style.ORANGE, linewidth=1.6, zorder=1)
        axes.set_ylabel(measure.replace("_", " "), fontsize=style.TICK_PT, color=style.INK)
        axes.margins(y=0.18)
        axes.text(
            0.995, 0.03, better, transform=axes.transAxes, ha="right", va="bottom",
            fontsize=style.NOTE_PT - 1, color=style.GREY,
        )  # fmt: skip
    bottom = panels[-1]
    bottom.set_xscale("log")
    bottom.xaxis.set_major_locator(FixedLocator(_labelled(by_k.index.tolist(), chosen_k)))
    bottom.xaxis.set_minor_locator(NullLocator())
    bottom.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
    bottom.set_xlabel("number of clusters k", fontsize=style.LABEL_PT, color=style.INK)
    figure.align_ylabels(panels)
    style.set_title(panels[0], title, detail)
    return figure


def _draw_curve(axes: Axes, values: pd.Series, errors: pd.Series | None, chosen_k: int) -> None:
    """Draw the values of one measure by k, and mark that of the chosen k."""
    if values.empty:
        axes.text(0.5, 0.5, "undefined here", transform=axes.transAxes, ha="center", va="center", color=style.GREY)
    bars = None if errors is None else errors[values.index].fillna(0)
    axes.errorbar(
        values.index, values, yerr=bars, color=style.BLUE, linewidth=1.8, marker="o", markersize=4.5, elinewidth=1.1,
        capsize=2.5,
    )  # fmt: skip
    if chosen_k in values.index:
        axes.plot([chosen_k], [values[chosen_k]], marker="o", markersize=10, color=style.ORANGE, zorder=4)


def _labelled(ks: Sequence[int], chosen_k: int) -> list[int]:
    """Return the k that get a label: the chosen one, and others that don't touch it or each other."""
    shown = [chosen_k]
    for k in (ks[0], ks[-1], *ks):
        if all(max(k, other) / min(k, other) >= _LABEL_RATIO for other in shown):
            shown.append(k)
    return sorted(shown)
