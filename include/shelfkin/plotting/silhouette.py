"""Silhouette over k with standard errors, and the chosen k."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from shelfkin.plotting import style


def draw_silhouette(
    ks: Sequence[int],
    silhouettes: Sequence[float],
    standard_errors: Sequence[float],
    chosen_k: int,
    *,
    title: str,
    detail: str = "",
) -> Figure:
    """Return a line of mean cosine silhouette over k; the band is one standard error to either side.

    Parameters
    ----------
    ks
        Values of k for which a silhouette is defined, ascending; may be empty.
    silhouettes, standard_errors
        One of each for each k.
    chosen_k
        Marked where it is one of `ks`.
    title
        The finding.
    """
    figure, axes = style.new_figure()
    style.set_labels(axes, "number of clusters k", "mean silhouette (cosine)")
    style.set_title(axes, title, detail)
    if not ks:
        axes.set_axis_off()
        axes.annotate(
            "A silhouette needs at least two clusters\nand more vectors than clusters.",
            xy=(0.5, 0.5),
            xycoords="axes fraction",
            ha="center",
            va="center",
            fontsize=style.LABEL_PT,
            color=style.GREY,
        )
        return figure
    lower = [value - error for value, error in zip(silhouettes, standard_errors, strict=True)]
    upper = [value + error for value, error in zip(silhouettes, standard_errors, strict=True)]
    axes.fill_between(ks, lower, upper, color=style.SKY, alpha=0.3, linewidth=0, label="± 1 standard error")
    axes.plot(ks, silhouettes, color=style.BLUE, linewidth=2, marker="o", markersize=6)
    if chosen_k in ks:
        height = silhouettes[list(ks).index(chosen_k)]
        axes.plot([chosen_k], [height], marker="o", markersize=13, color=style.ORANGE, zorder=4)
        right_half = chosen_k > (ks[0] + ks[-1]) / 2
        axes.annotate(
            f"k = {chosen_k}",
            xy=(chosen_k, height),
            xytext=(10, -16) if not right_half else (-10, 14),
            textcoords="offset points",
            ha="right" if right_half else "left",
            va="bottom" if right_half else "top",
            fontsize=style.TITLE_PT,
            fontweight="bold",
            color=style.ORANGE,
        )
    axes.margins(0.08)
    axes.legend(frameon=False, fontsize=style.NOTE_PT, loc="best", labelcolor=style.GREY)
    return figure
