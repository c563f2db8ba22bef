"""How many products each cluster holds."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from shelfkin.plotting import style

# Beyond this, bars get too thin to carry a readable name; the rest is summed up in a last bar.
MAX_BARS = 48


def draw_sizes(names: Sequence[str], sizes: Sequence[int], *, title: str, detail: str = "") -> Figure:
    """Return horizontal bars, the largest cluster on top.

    Parameters
    ----------
    names, sizes
        One of each per cluster; sizes are products.
    title
        The finding.
    """
    ranked = sorted(zip(names, sizes, strict=True), key=lambda pair: (-pair[1], pair[0]))
    bars = ranked if len(ranked) <= MAX_BARS else ranked[: MAX_BARS - 1]
    rest = ranked[len(bars) :]
    labels = [style.safe_text(name, 40) for name, _ in bars]
    values = [size for _, size in bars]
    colours = [style.BLUE] * len(bars)
    if rest:
        labels.append(f"{len(rest)} smaller clusters")
        values.append(sum(size for _, size in rest))
        colours.append(style.PALE)
    figure, axes = style.new_figure(height_in=max(3.0, 1.4 + 0.25 * len(labels)))
    axes.barh(range(len(labels)), values, color=colours, height=0.72)
    total = max(sum(sizes), 1)
    style.write_behind_bars(axes, values, [f"{value:,} ({value / total:.1%})" for value in values])
    style.name_bars(axes, labels)
    # Room for the figures behind the longest bar.
    axes.set_xlim(0, max([*values, 1]) * 1.22)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    style.set_labels(axes, "products", "")
    style.set_title(axes, title, detail)
    return figure
