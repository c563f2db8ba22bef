"""How our lists compare with every baseline, on one window and over the days."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure

from shelfkin.plotting import style


def draw_against_baselines(
    ours: tuple[str, float],
    baselines: Mapping[str, tuple[float, float, float]],
    *,
    metric: str,
    title: str,
    detail: str = "",
) -> Figure:
    """Return a bar for each recommender, the best on top, with how far ours is ahead of it.

    Parameters
    ----------
    ours
        Name and figure of our lists.
    baselines
        By name: figure, and the low and high end of the interval of ours less this one.
    metric
        What the figures are.
    title
        The finding.
    """
    bars = [(*ours, "")]
    bars += [(name, value, f", ours {low:+.3f} to {high:+.3f}") for name, (value, low, high) in baselines.items()]
    bars.sort(key=lambda bar: (-bar[1], bar[0]))
    figure, axes = style.new_figure(height_in=1.9 + 0.38 * len(bars))
    colours = [style.BLUE if name == ours[0] else style.SKY for name, _, _ in bars]
    places = range(len(bars))
    axes.barh(places, [value for _, value, _ in bars], color=colours, height=0.68)
    style.write_behind_bars(axes, [value for _, value, _ in bars], [f"{value:.4f}{ahead}" for _, value, ahead in bars])
    axes.set_yticks(list(places), labels=[style.safe_text(name, 30) for name, _, _ in bars], fontsize=style.TICK_PT)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    # Room for the figures behind the longest bar.
    axes.set_xlim(0, max(*(value for _, value, _ in bars), 1e-6) * 1.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    style.set_labels(axes, metric, "")
    style.set_title(axes, title, detail)
    return figure


def draw_over_days(
    days: Sequence[date], ours: Sequence[float], best: Sequence[float | None], *, metric: str, title: str, detail: str
) -> Figure:
    """Return our lists and the best baseline of each day as two lines.

    Parameters
    ----------
    days
        Rising dates, at least one.
    ours, best
        One figure per day; None where no baseline was judged.
    metric
        What the figures are.
    title, detail
        The finding, and a line below it.
    """
    figure, axes = style.new_figure(height_in=4.2)
    # A date without a time of day is its own midnight, whatever the time zone of the machine.
    at = [float(date2num(day)) for day in days]
    axes.plot(at, ours, color=style.BLUE, marker="o", linewidth=2, label="shelfkin")
    judged = [(day, value) for day, value in zip(at, best, strict=True) if value is not None]
    if judged:
        axes.plot(*zip(*judged, strict=True), color=style.ORANGE, marker="s", linewidth=1.5, label="best baseline")
    axes.xaxis.set_major_locator(locator := AutoDateLocator(minticks=1, maxticks=7))
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    if len(days) == 1:
        axes.set_xlim(at[0] - 1, at[0] + 1)
    axes.set_ylim(0, max([*ours, *(value for _, value in judged), 1e-6]) * 1.2)
    axes.legend(frameon=False, fontsize=style.NOTE_PT, loc="lower left")
    style.set_labels(axes, "as of", metric)
    style.set_title(axes, title, detail)
    return figure
