"""Why this k: inertia, silhouette and stability over k in one picture, with the chosen k through all three."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from shelfkin.plotting import style

# Labels of k closer than this ratio would touch.
_LABEL_RATIO = 1.18


@dataclass(frozen=True)
class Curve:
    """One measure over k; values and errors may be None where the measure is undefined."""

    label: str
    values: Sequence[float | None]
    errors: Sequence[float | None] | None = None
    better: str = ""


def draw_k_choice(
    ks: Sequence[int],
    curves: Sequence[Curve],
    chosen_k: int,
    candidates: Sequence[int],
    *,
    title: str,
    detail: str = "",
) -> Figure:
    """Return one panel per curve, one above the other, over a common logarithmic axis of k.

    Parameters
    ----------
    ks
        Values of k, ascending.
    curves
        Each with one value per k; errors are drawn as bars of one standard error.
    chosen_k
        One of `ks`.
    candidates
        The k among which the decision fell; their range is shaded.
    title
        The finding.
    """
    figure, first = style.new_figure(height_in=2.1 * len(curves) + 1.6)
    first.remove()
    panels = figure.subplots(len(curves), 1, sharex=True, squeeze=False)[:, 0]
    for axes, curve in zip(panels, curves, strict=True):
        style.dress(axes)
        _draw_curve(axes, ks, curve)
        if len(candidates) > 1:
            axes.axvspan(candidates[0], candidates[-1], color=style.AMBER, alpha=0.18, linewidth=0, zorder=0)
        axes.axvline(chosen_k, color=style.ORANGE, linewidth=1.6, zorder=1)
        _mark(axes, ks, curve, chosen_k)
        axes.set_ylabel(curve.label, fontsize=style.TICK_PT, color=style.INK)
        axes.margins(y=0.18)
        if curve.better:
            axes.text(
                0.995, 0.03, curve.better, transform=axes.transAxes, ha="right", va="bottom",
                fontsize=style.NOTE_PT - 1, color=style.GREY,
            )  # fmt: skip
    bottom = panels[-1]
    bottom.set_xscale("log")
    bottom.xaxis.set_major_locator(FixedLocator(_labelled(ks, chosen_k)))
    bottom.xaxis.set_minor_locator(NullLocator())
    bottom.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
    bottom.set_xlabel("number of clusters k", fontsize=style.LABEL_PT, color=style.INK)
    figure.align_ylabels(panels)
    style.set_title(panels[0], title, detail)
    return figure


def _draw_curve(axes: Axes, ks: Sequence[int], curve: Curve) -> None:
    errors = curve.errors or [None] * len(ks)
    known = [
        (k, value, error or 0.0) for k, value, error in zip(ks, curve.values, errors, strict=True) if value is not None
    ]
    x, y, bars = [k for k, _, _ in known], [value for _, value, _ in known], [error for _, _, error in known]
    if not known:
        axes.text(0.5, 0.5, "undefined here", transform=axes.transAxes, ha="center", va="center", color=style.GREY)
    elif curve.errors is None:
        axes.plot(x, y, color=style.BLUE, linewidth=1.8, marker="o", markersize=4.5)
    else:
        axes.errorbar(
            x, y, yerr=bars, color=style.BLUE, linewidth=1.8, marker="o", markersize=4.5, elinewidth=1.1, capsize=2.5
        )  # fmt: skip


def _mark(axes: Axes, ks: Sequence[int], curve: Curve, chosen_k: int) -> None:
    value = dict(zip(ks, curve.values, strict=True)).get(chosen_k)
    if value is not None:
        axes.plot([chosen_k], [value], marker="o", markersize=10, color=style.ORANGE, zorder=4)


def _labelled(ks: Sequence[int], chosen_k: int) -> list[int]:
    """Return the k that get a label: the chosen one, and others that don't touch it or each other."""
    shown = [chosen_k]
    for k in (ks[0], ks[-1], *ks):
        if all(max(k, other) / min(k, other) >= _LABEL_RATIO for other in shown):
            shown.append(k)
    return sorted(shown)
