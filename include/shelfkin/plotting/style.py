"""How every picture looks, in one place.

Figures are built without pyplot, which keeps global state that two threads of a server would share, and drawn by Agg,
which needs no display. Colours are those of Okabe & Ito (2008), told apart by people with any common colour blindness.
"""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Sequence
from functools import cache

from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.layout_engine import ConstrainedLayoutEngine

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SKY, AMBER = "#56B4E9", "#E69F00"
INK, GREY, PALE = "#222222", "#767676", "#D9D9D9"
# Without their yellow: on white, it is a hint at most.
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, SKY, AMBER)

# 8 inches at 160 dots are 1,280 pixels; text of 12 points can still be read at half that size.
DPI = 160
WIDTH_IN = 8.0
TITLE_PT, LABEL_PT, TICK_PT, NOTE_PT = 15, 12.5, 11.5, 11
# Bold text of 15 points takes about 0.13 inch a character.
TITLE_CHARS_PER_IN = 7.5

_MISSING = "\N{WHITE SQUARE}"


def new_figure(height_in: float = 5.0, width_in: float = WIDTH_IN) -> tuple[Figure, Axes]:
    """Return an empty figure with one pair of axes in the house style."""
    figure = Figure(
        figsize=(width_in, height_in),
        dpi=DPI,
        facecolor="white",
        layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08),
    )
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    dress(axes)
    return figure, axes


def dress(axes: Axes) -> None:
    """Give axes the house style: no box, light grid, grey ticks."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GREY)
    axes.tick_params(labelsize=TICK_PT, color=GREY, labelcolor=INK)
    axes.grid(visible=True, color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)


def set_title(axes: Axes, finding: str, detail: str = "") -> None:
    """Write what the picture shows: the finding in bold over the whole figure, a line of detail below it."""
    figure = axes.get_figure(root=True)
    if figure is not None:
        title = wrap(finding, int(TITLE_CHARS_PER_IN * figure.get_figwidth()), max_lines=2)
        figure.suptitle(title, x=0.015, ha="left", fontsize=TITLE_PT, fontweight="bold", color=INK)
    if detail:
        axes.set_title(safe_text(detail, 110), loc="left", fontsize=NOTE_PT, color=GREY, pad=8)


def wrap(text: str, width: int, max_lines: int) -> str:
    """Return shop text as `safe_text` does, in lines of about `width` characters."""
    lines = textwrap.wrap(safe_text(text, width * max_lines), width, max_lines=max_lines, placeholder="…")
    return "\n".join(lines)


def set_labels(axes: Axes, x: str, y: str) -> None:
    """Label both axes."""
    axes.set_xlabel(safe_text(x), fontsize=LABEL_PT, color=INK)
    axes.set_ylabel(safe_text(y), fontsize=LABEL_PT, color=INK)


def name_bars(axes: Axes, labels: Sequence[str]) -> None:
    """Name horizontal bars at the left, the first one on top; bar i lies at height i."""
    axes.set_yticks(range(len(labels)), labels=labels, fontsize=TICK_PT)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def write_behind_bars(axes: Axes, ends: Sequence[float], texts: Sequence[str]) -> None:
    """Write a text beyond the end of each horizontal bar, left of one below 0; bar i lies at height i."""
    for place, (end, text) in enumerate(zip(ends, texts, strict=True)):
        axes.annotate(
            safe_text(text),
            xy=(end, place),
            xytext=(4 if end >= 0 else -4, 0),
            textcoords="offset points",
            ha="left" if end >= 0 else "right",
            va="center",
            fontsize=NOTE_PT - 1,
            color=INK,
        )


def safe_text(text: str, max_chars: int = 120) -> str:
    r"""Return text from a shop as matplotlib can draw it.

    Control and direction characters go, white space becomes single blanks, ``$`` is escaped (a pair of them would start
    mathtext, which raises on bad syntax), characters without a glyph become an empty square, and what is longer than
    `max_chars` is cut with an ellipsis.
    """
    visible = "".join(
        character for character in " ".join(text.split()) if unicodedata.category(character) not in {"Cc", "Cf", "Cs"}
    )
    glyphs = _glyphs()
    drawn = "".join(character if ord(character) in glyphs else _MISSING for character in visible)
    clipped = drawn if len(drawn) <= max_chars else drawn[: max_chars - 1].rstrip() + "…"
    return clipped.replace("$", r"\$")


@cache
def _glyphs() -> frozenset[int]:
    """Return the code points of the default font, which is bundled with matplotlib."""
    return frozenset(FT2Font(font_manager.findfont("DejaVu Sans")).get_charmap())


def colour_of(place: int) -> str:
    """Return the colour of the `place`-th thing."""
    return CYCLE[place % len(CYCLE)]


def darkened(colour: str) -> str:
    """Return a shade of `colour` dark enough for text on white."""
    red, green, blue = (0.55 * channel for channel in to_rgb(colour))
    return to_hex((red, green, blue))
