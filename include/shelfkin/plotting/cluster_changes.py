"""What each cluster won and lost since the day before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import MaxNLocator

from shelfkin.plotting import style

# The clusters that changed most; a longer list isn't read.
MAX_BARS = 18

_NAME_CHARS = 32
_DETAIL_CHARS = 62
_GAP_PX = 20

# Left of the line is what went, right of it what came; the darker part moved between clusters.
_PARTS = (
    ("n_left", -1, style.ORANGE, "went to another cluster"),
    ("n_gone", -1, style.AMBER, "left the catalogue"),
    ("n_came", 1, style.BLUE, "came from another cluster"),
    ("n_new", 1, style.SKY, "new in the catalogue"),
)


@dataclass(frozen=True)
class ClusterChange:
    """One cluster on two days, in products.

    Attributes
    ----------
    name
        Name of the cluster.
    fate
        What happened to it as a whole, such as ``born``; empty for one that lives on.
    n_stayed, n_came, n_left, n_new, n_gone
        Products that stayed, came from or went to other clusters, and entered or left the catalogue.
    """

    name: str
    fate: str
    n_stayed: int
    n_came: int
    n_left: int
    n_new: int
    n_gone: int

    @property
    def n_changed(self) -> int:
        """Products that came or went."""
        return self.n_came + self.n_left + self.n_new + self.n_gone


def draw_cluster_changes(changes: Sequence[ClusterChange], *, title: str, detail: str = "") -> Figure:
    """Return bars of what came and what went, for the clusters that changed most.

    Parameters
    ----------
    changes
        All clusters of either day.
    title
        The finding.
    """
    changed = sorted((change for change in changes if change.n_changed), key=lambda one: (-one.n_changed, one.name))
    if not changed:
        return _nothing_changed(len(changes), title, detail)
    bars = changed[:MAX_BARS]
    figure, axes = style.new_figure(height_in=2.9 + 0.33 * len(bars), width_in=9.0)
    ends = _draw_parts(axes, bars)
    labels = [_label(change) for change in bars]
    axes.set_yticks(range(len(bars)), labels=labels, fontsize=style.TICK_PT)
    axes.set_ylim(len(bars) - 0.4, -1.2)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
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
    _write_figures(axes, bars, ends)
    return figure


def _draw_parts(axes: Axes, bars: Sequence[ClusterChange]) -> list[tuple[int, int]]:
    """Draw the bars; return where each one ends, left and right."""
    ends = {-1: [0] * len(bars), 1: [0] * len(bars)}
    for part, side, colour, label in _PARTS:
        values = [side * getattr(change, part) for change in bars]
        if not any(values):
            continue
        # Edges keep the two parts apart in grey print too.
        axes.barh(
            range(len(bars)),
            values,
            left=ends[side],
            color=colour,
            height=0.72,
            edgecolor="white",
            linewidth=0.5,
            label=label,
        )
        ends[side] = [end + value for end, value in zip(ends[side], values, strict=True)]
    return list(zip(ends[-1], ends[1], strict=True))


def _write_figures(axes: Axes, bars: Sequence[ClusterChange], ends: Sequence[tuple[int, int]]) -> None:
    """Write the figures beside the bars, and how many products stayed in a column at the right edge."""
    went = [_write(axes, f"−{-left:,}" if left else "", (left, place), "right") for place, (left, _) in enumerate(ends)]
    came = [
        _write(axes, f"+{right:,}" if right else "", (right, place), "left") for place, (_, right) in enumerate(ends)
    ]
    column = [("kept", -0.85), *((f"{change.n_stayed:,}", place) for place, change in enumerate(bars))]
    kept = [_write(axes, text, (1, place), "right", "axes fraction") for text, place in column]
    kept[0].set_fontweight("bold")
    _make_room(axes, (min(left for left, _ in ends), max(right for _, right in ends)), went, came, kept)


def _write(axes: Axes, text: str, spot: tuple[float, float], align: str, x_unit: str = "data") -> Annotation:
    gap = {"data": 4 if align == "left" else -4}.get(x_unit, 0)
    return axes.annotate(
        text,
        xy=spot,
        xycoords=(x_unit, "data"),
        xytext=(gap, 0),
        textcoords="offset points",
        ha=align,
        va="center",
        fontsize=style.NOTE_PT - 1,
        color=style.INK,
    )


def _make_room(axes: Axes, ends: tuple[int, int], *columns: Sequence[Annotation]) -> None:
    """Widen the axis, so that the figures have their place beside names and bars whatever their length."""
    figure = axes.get_figure(root=True)
    if figure is None:
        return
    figure.canvas.draw()
    widths = [max(text.get_window_extent().width for text in column) + _GAP_PX for column in columns]
    went, came, kept = widths
    units = (ends[1] - ends[0]) / max(axes.get_window_extent().width - went - came - kept, 1)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    ticks = [tick for tick in axes.xaxis.get_major_locator().tick_values(*ends) if ends[0] <= tick <= ends[1]]
    axes.set_xticks(ticks, labels=[_short(abs(tick)) for tick in ticks])
    axes.set_xlim(ends[0] - went * units, ends[1] + (came + kept) * units)


def _short(n: float) -> str:
    return f"{n / 1e6:g}M" if n >= 1e6 else f"{n:,.0f}"


def _label(change: ClusterChange) -> str:
    name = style.safe_text(change.name, _NAME_CHARS) or "(no name)"
    return f"{name} ({change.fate})" if change.fate else name


def _nothing_changed(n_clusters: int, title: str, detail: str) -> Figure:
    figure, axes = style.new_figure(height_in=2.4)
    axes.set_axis_off()
    axes.annotate(
        f"All {n_clusters} clusters hold the same products as before.",
        xy=(0.0, 0.5),
        xycoords="axes fraction",
        va="center",
        fontsize=style.LABEL_PT,
        color=style.INK,
    )
    style.set_title(axes, title, detail)
    return figure
