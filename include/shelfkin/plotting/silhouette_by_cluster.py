"""How well every cluster holds together: the silhouettes of its texts, cluster by cluster."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from shelfkin.plotting import style

# Rows that can still be read; beyond, the middle of the ranking is left out.
MAX_CLUSTERS = 40
_NAME_CHARS = 34


def overlaps(silhouettes: NDArray[np.floating]) -> bool:
    """Tell whether a quarter or more of a cluster lies nearer to another one."""
    return bool(np.quantile(silhouettes, 0.25) < 0)


def draw_silhouette_by_cluster(
    silhouettes: NDArray[np.floating],
    clusters: NDArray[np.integer],
    names: Sequence[str],
    *,
    title: str,
    detail: str = "",
) -> Figure:
    """Return one row per cluster: the middle half of its silhouettes as a bar, the median as a dot, best cluster first.

    Rousseeuw (1987) draws every silhouette as a line of its own; for dozens of clusters of thousands of texts the
    quartiles say the same and can be read.

    Parameters
    ----------
    silhouettes
        Shape (n,), in [-1, 1].
    clusters
        Shape (n,): index into `names`.
    names
        Names of the clusters.
    title
        The finding.
    """
    quartiles = {
        place: np.quantile(silhouettes[clusters == place], (0.25, 0.5, 0.75))
        for place in range(len(names))
        if (clusters == place).any()
    }
    ranked = sorted(quartiles, key=lambda place: (-quartiles[place][1], place))
    n_left_out = len(ranked) - MAX_CLUSTERS
    if n_left_out > 0:
        half = MAX_CLUSTERS // 2
        ranked = [*ranked[:half], *ranked[-half:]]
        detail = f"{detail}; {n_left_out} clusters in the middle are left out".removeprefix("; ")
    figure, axes = style.new_figure(height_in=max(3.0, 1.6 + 0.23 * len(ranked)), width_in=9.0)
    for row, place in enumerate(ranked):
        low, median, high = quartiles[place]
        colour = style.ORANGE if overlaps(silhouettes[clusters == place]) else style.BLUE
        axes.barh(row, high - low, left=low, height=0.62, color=colour, alpha=0.35, linewidth=0)
        axes.plot([median], [row], marker="o", markersize=5, color=colour)
    axes.axvline(0, color=style.GREY, linewidth=1)
    style.name_bars(axes, [style.safe_text(names[place], _NAME_CHARS) for place in ranked])
    axes.set_xlabel(
        "silhouette (cosine): middle half and median\norange: a quarter or more lies nearer to another cluster",
        fontsize=style.NOTE_PT,
        color=style.INK,
    )
    style.set_title(axes, title, detail)
    return figure
