"""Inertia over k, with the chosen k."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from shelfkin.plotting import style


def draw_elbow(
    ks: Sequence[int], mean_squared_distances: Sequence[float], chosen_k: int, *, title: str, detail: str = ""
) -> Figure:
    """Return a line of mean squared distance to the centroid over k.

    Parameters
    ----------
    ks
        Values of k, ascending.
    mean_squared_distances
        Inertia per product, one for each k.
    chosen_k
        One of `ks`.
    title
        The finding.
    """
    figure, axes = style.new_figure()
    axes.plot(ks, mean_squared_distances, color=style.BLUE, linewidth=2, marker="o", markersize=6)
    height = dict(zip(ks, mean_squared_distances, strict=True))[chosen_k]
    if len(ks) > 1:
        axes.plot(
            [ks[0], ks[-1]],
            [mean_squared_distances[0], mean_squared_distances[-1]],
            color=style.GREY,
            linewidth=1,
            linestyle=(0, (4, 4)),
        )
        axes.annotate(
            "equal gain per cluster",
            xy=((ks[0] + ks[-1]) / 2, (mean_squared_distances[0] + mean_squared_distances[-1]) / 2),
            xytext=(8, 8),
            textcoords="offset points",
            fontsize=style.NOTE_PT,
            color=style.GREY,
        )
    axes.plot([chosen_k], [height], marker="o", markersize=13, color=style.ORANGE, zorder=4)
    axes.annotate(
        f"k = {chosen_k}",
        xy=(chosen_k, height),
        xytext=(-10, -14),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=style.TITLE_PT,
        fontweight="bold",
        color=style.ORANGE,
    )
    axes.margins(0.08)
    style.set_labels(axes, "number of clusters k", "mean squared distance to centroid")
    style.set_title(axes, title, detail)
    return figure
