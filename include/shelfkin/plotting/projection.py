"""The catalogue in two dimensions, with the clusters' names on it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from numpy.typing import NDArray

from shelfkin.plotting import style

# More names than this can't be placed without hiding the points.
MAX_NAMES = 30

# Longer names take two lines.
_NAME_CHARS = 20

# More points than this hide each other; then cells show where the texts are, and whose most of them are.
MAX_POINTS = 6_000
_CELLS = 90

# Step of the search for a free spot, and how far a name may stand from its cluster, in pixels.
_GAP_PX = 8.0
_MAX_REACH_PX = 640.0

# Free space around a name, across and up; side by side, two names would read as one.
_PADDING_PX = (16.0, 2.0)


def draw_projection(
    coordinates: NDArray[np.floating],
    clusters: NDArray[np.integer],
    names: Sequence[str],
    explained: Sequence[float],
    *,
    title: str,
    detail: str = "",
) -> Figure:
    """Return the first two principal components, each cluster named at its median point.

    Up to `MAX_POINTS` texts are points; more are counted in hexagonal cells, each in the colour of the cluster that
    most of its texts belong to, the darker the more they are.

    Parameters
    ----------
    coordinates
        Shape (n, 2).
    clusters
        Shape (n,): index into `names`.
    names
        Names of the clusters, the largest first; the first `MAX_NAMES` are drawn.
    explained
        Share of variance along each axis.
    title
        The finding.
    """
    figure, axes = style.new_figure(height_in=7.0, width_in=9.0)
    colours = np.asarray([style.colour_of(place) for place in range(max(len(names), 1))])
    if len(coordinates) > MAX_POINTS:
        _draw_cells(axes, coordinates, clusters, colours)
    else:
        # Points of all clusters are mixed, or the last cluster would cover the others; sizes follow the crowd.
        size = float(np.clip(20_000 / max(len(coordinates), 1), 5, 40))
        axes.scatter(
            coordinates[:, 0], coordinates[:, 1], c=colours[clusters], s=size, alpha=0.45, linewidths=0, rasterized=True
        )
    style.set_labels(
        axes,
        f"first principal component ({explained[0]:.1%} of variance)",
        f"second principal component ({explained[1]:.1%} of variance)",
    )
    style.set_title(axes, title, detail)
    axes.margins(0.05)
    shown = [place for place in range(min(len(names), MAX_NAMES)) if (clusters == place).any()]
    centres = np.asarray([np.median(coordinates[clusters == place], axis=0) for place in shown]).reshape(-1, 2)
    _place_names(axes, centres, [names[place] for place in shown], [colours[place] for place in shown])
    return figure


def _draw_cells(
    axes: Axes, coordinates: NDArray[np.floating], clusters: NDArray[np.integer], colours: NDArray[np.str_]
) -> None:
    x, y = coordinates[:, 0], coordinates[:, 1]
    counts = axes.hexbin(x, y, gridsize=_CELLS, mincnt=1, visible=False).get_array()
    owners = axes.hexbin(x, y, C=clusters, reduce_C_function=_most_common, gridsize=_CELLS)
    place = np.asarray(owners.get_array(), dtype=int)
    shade = np.log1p(np.asarray(counts)) / np.log1p(np.asarray(counts).max())
    owners.set_array(None)
    owners.set_facecolor(
        [to_rgba(colours[which], 0.2 + 0.8 * depth) for which, depth in zip(place, shade, strict=True)]
    )
    owners.set_edgecolor("none")


def _most_common(clusters: NDArray[np.floating] | list[float]) -> float:
    """Return the cluster of the most texts of a cell; ties go to the larger cluster, which has the lower number."""
    return float(np.bincount(np.asarray(clusters, dtype=np.int64)).argmax())


def _place_names(axes: Axes, centres: NDArray[np.floating], names: Sequence[str], colours: Sequence[str]) -> None:
    """Write each name as near to its centre as it can stand without touching another name or centre."""
    figure = axes.get_figure(root=True)
    if figure is None or not len(names):
        return
    axes.scatter(centres[:, 0], centres[:, 1], s=49, c=colours, edgecolors="white", zorder=4)
    # Names are placed in pixels: the layout must stand before, and must not move after.
    figure.canvas.draw()
    figure.set_layout_engine("none")
    anchors = axes.transData.transform(centres)
    inks = [style.darkened(colour) for colour in colours]
    texts = [
        axes.text(
            0,
            0,
            style.wrap(name, _NAME_CHARS, max_lines=2),
            transform=None,
            fontsize=style.NOTE_PT - 1,
            fontweight="bold",
            linespacing=0.95,
            color=ink,
            ha="center",
            va="center",
            multialignment="center",
            zorder=6,
            path_effects=[patheffects.withStroke(linewidth=3, foreground="white")],
        )
        for name, ink in zip(names, inks, strict=True)
    ]
    sizes = np.asarray([text.get_window_extent().size for text in texts]) + _PADDING_PX
    box = axes.get_window_extent()
    spots = place_labels(anchors, sizes, (box.x0, box.y0, box.x1, box.y1))
    for text, spot, anchor, size in zip(texts, spots, anchors, sizes, strict=True):
        text.set_position((float(spot[0]), float(spot[1])))
        if np.abs(spot - anchor)[1] > size[1] or np.abs(spot - anchor)[0] > size[0] / 2 + 2 * _GAP_PX:
            edge = np.clip(anchor, spot - size / 2, spot + size / 2)
            axes.plot(
                [anchor[0], edge[0]], [anchor[1], edge[1]], transform=None, color=style.GREY, linewidth=0.9, zorder=3
            )


def place_labels(
    anchors: NDArray[np.floating],
    sizes: NDArray[np.floating],
    bounds: tuple[float, float, float, float],
) -> NDArray[np.floating]:
    """Return where labels go: each at the free spot nearest to its anchor, in the order given.

    Spots are tried on rings of growing radius, which finds the same place every time and needs no time limit. A label
    for which no spot is free takes the first one tried.

    Parameters
    ----------
    anchors
        Shape (n, 2), pixels.
    sizes
        Shape (n, 2): width and height of each label, pixels.
    bounds
        Left, bottom, right and top of the area that labels stay in, pixels.

    Returns
    -------
    ndarray
        Shape (n, 2): centres of the labels, pixels.
    """
    angles = np.deg2rad(np.arange(90, 450, 15))
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    half_dot = np.full_like(anchors, _GAP_PX)
    centres, halves = anchors.copy(), half_dot.copy()
    placed = np.empty_like(anchors)
    for place, (anchor, size) in enumerate(zip(anchors, sizes, strict=True)):
        half = size / 2
        reach = np.arange(_GAP_PX, _MAX_REACH_PX, _GAP_PX)
        # A ring around a wide label is wide: the label's own half size is added in each direction.
        spots = anchor + (circle * reach[:, None, None] + np.clip(circle * 1.5, -1, 1) * half).reshape(-1, 2)
        inside = ((spots - half >= bounds[:2]) & (spots + half <= bounds[2:])).all(axis=1)
        apart = np.abs(spots[:, None] - centres) >= halves + half + 2
        free = inside & apart.any(axis=2).all(axis=1)
        placed[place] = spots[free.argmax()]
        centres = np.vstack([centres, placed[place]])
        halves = np.vstack([halves, half])
    return placed
