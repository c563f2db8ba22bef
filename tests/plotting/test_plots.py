"""Pictures of hostile shop text, and labels that don't touch."""

from __future__ import annotations

import io
from datetime import date

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from shelfkin.plotting import cluster_changes, style
from shelfkin.plotting.k_choice import _labelled, draw_k_choice
from shelfkin.plotting.projection import draw_projection, place_labels
from shelfkin.plotting.recommenders import draw_against_baselines, draw_over_days
from shelfkin.plotting.silhouette_by_cluster import MAX_CLUSTERS, draw_silhouette_by_cluster, overlaps
from shelfkin.plotting.sizes import draw_sizes

HOSTILE = [
    "$\\frac{",
    "$1 or $2",
    "\\$ \\undefined$",
    "ヨーグルト",
    "قهوة",
    "a\u202eb\x00\n\tc",
    "x" * 500,
    "",
    "{}%s<b>",
]


def png(figure: object) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")  # type: ignore[attr-defined]
    return buffer.getvalue()


def test_hostile_names_are_drawn() -> None:
    clusters = np.arange(90) % len(HOSTILE)
    points = np.random.default_rng(0).normal(size=(90, 2))
    title = "$\\bad{" * 30
    assert png(draw_projection(points, clusters, HOSTILE, (0.2, 0.1), title=title, detail=title)).startswith(b"\x89PNG")
    assert png(draw_sizes(HOSTILE, list(range(len(HOSTILE))), title=title, detail=title)).startswith(b"\x89PNG")


def test_recommenders_are_drawn_best_first_with_their_intervals() -> None:
    rivals = {"popularity": (0.2, 0.05, 0.15), "$\\frac{": (0.4, -0.2, 0.01)}
    figure = draw_against_baselines(("shelfkin", 0.3), rivals, metric="NDCG@10", title="t")
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["\\$\\frac{", "shelfkin", "popularity"]
    written = [text.get_text() for text in axes.texts]
    assert written == ["0.4000, ours -0.200 to +0.010", "0.3000", "0.2000, ours +0.050 to +0.150"]
    assert png(figure)


def test_days_are_drawn_as_days_where_one_has_no_baseline() -> None:
    days = [date(2026, 11, 1), date(2026, 11, 2), date(2026, 11, 9)]
    figure = draw_over_days(days, [0.3, 0.2, 0.4], [0.1, None, 0.2], metric="NDCG@10", title="t", detail="")
    ours, best = figure.axes[0].get_lines()
    assert np.diff(ours.get_xdata()).tolist() == [1, 7]
    assert best.get_ydata() == pytest.approx([0.1, 0.2])
    assert png(figure)
    assert png(draw_over_days(days[:1], [0.0], [None], metric="NDCG@10", title="one", detail=""))


def k_scores(
    ks: list[int], distances: list[float], silhouettes: list[float | None], errors: list[float | None]
) -> pd.DataFrame:
    measured = {"k": ks, "mean_squared_distance": distances, "silhouette": silhouettes, "silhouette_se": errors}
    return pd.DataFrame({**measured, "stability": None, "stability_se": None})


def test_a_sweep_of_one_k_is_drawn() -> None:
    assert png(draw_k_choice(k_scores([1], [0.0], [None], [None]), 1, (), title="one"))


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200))
def test_safe_text_leaves_no_live_dollar_and_no_control_character(text: str) -> None:
    safe = style.safe_text(text, 50)
    assert safe.replace("\\$", "").count("$") == 0
    assert len(safe.replace("\\$", "$")) <= 50
    assert safe.isprintable() or all(character.isprintable() for character in safe.replace("□", ""))


def test_the_choice_of_k_is_marked_in_every_panel_and_undefined_values_are_left_out() -> None:
    scores = k_scores([2, 3, 4], [9.0, 5.0, 4.0], [None, 0.3, 0.2], [None, 0.01, 0.02])
    figure = draw_k_choice(scores, 3, (3, 4), title="$\\bad{")
    panels = figure.get_axes()
    assert len(panels) == 3 and png(figure)
    marks = [[line.get_xydata().tolist() for line in axes.lines if line.get_markersize() == 10] for axes in panels]
    assert marks == [[[[3, 5.0]]], [[[3, 0.3]]], []]
    undefined = ["undefined here" in {text.get_text() for text in axes.texts} for axes in panels]
    assert undefined == [False, False, True]


def test_labels_of_k_keep_apart_and_the_chosen_one_is_among_them() -> None:
    shown = _labelled([20, 24, 30, 36, 37, 38, 39, 40, 48, 60, 80], 38)
    assert {20, 38, 80} <= set(shown) and not {36, 37, 39, 40} & set(shown)


def test_silhouettes_by_cluster_leave_out_the_middle_of_many_and_say_so() -> None:
    clusters = np.repeat(np.arange(60), 3)
    values = np.repeat(np.linspace(-0.2, 0.6, 60), 3)
    names = [f"{HOSTILE[place % len(HOSTILE)]}{place}" for place in range(60)]
    figure = draw_silhouette_by_cluster(values, clusters, names, title="$x{", detail="day")
    (axes,) = figure.get_axes()
    assert png(figure) and len(axes.get_yticks()) == MAX_CLUSTERS
    assert axes.get_title(loc="left") == f"day; {60 - MAX_CLUSTERS} clusters in the middle are left out"
    medians = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
    assert medians == sorted(medians, reverse=True) and medians[0] == pytest.approx(0.6)


def test_a_cluster_overlaps_from_a_quarter_on_and_is_drawn_so() -> None:
    apart, overlapping = np.array([-0.1, 0.2, 0.2, 0.2, 0.2, 0.2]), np.array([-0.2, -0.1, 0.3, 0.3, 0.3])
    assert not overlaps(apart)
    assert overlaps(overlapping)
    figure = draw_silhouette_by_cluster(
        np.concatenate([apart, overlapping]), np.repeat([0, 1], [6, 5]), ["apart", "overlapping"], title="t"
    )
    dots = [line.get_color() for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert dots == [style.ORANGE, style.BLUE]  # by median, 0.3 before 0.2


def test_a_crowd_is_drawn_as_cells_in_the_colour_of_most_of_their_texts() -> None:
    random = np.random.default_rng(0)
    points = np.vstack([random.normal(0, 0.1, (4_000, 2)), random.normal(5, 0.1, (3_000, 2))])
    clusters = np.repeat([0, 1], [4_000, 3_000])
    clusters[:100] = 1  # strangers in the crowd of the first
    figure = draw_projection(points, clusters, ["first", "second"], (0.5, 0.1), title="t")
    png(figure)
    cells = [found for found in figure.get_axes()[0].collections if found.get_visible()][-1]
    centres, colours = cells.get_offsets(), cells.get_facecolors()
    dense = colours[:, 3] > 0.8
    for near, place in ((centres[:, 0] < 2, 0), (centres[:, 0] > 2, 1)):
        found = colours[dense & near][:, :3]
        assert len(found) and np.allclose(found, to_rgb(style.colour_of(place)))


def test_labels_never_touch() -> None:
    random = np.random.default_rng(3)
    anchors = random.normal(500, 60, size=(25, 2))
    sizes = np.tile([120.0, 20.0], (25, 1))
    spots = place_labels(anchors, sizes, (0, 0, 1000, 1000))
    apart = np.abs(spots[:, None] - spots) >= sizes
    assert (apart.any(axis=2) | np.eye(25, dtype=bool)).all()
    assert (spots - sizes / 2 >= 0).all()
    assert (spots + sizes / 2 <= 1000).all()


def texts(figure: object) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]  # type: ignore[attr-defined]


def change(name: str, n_came: int = 0, n_left: int = 0, fate: str = "") -> dict[str, object]:
    return {"name": name, "fate": fate, "n_stayed": 100, "n_came": n_came, "n_left": n_left, "n_new": 0, "n_gone": 0}


def test_drift_shows_the_clusters_that_changed_most_with_their_figures() -> None:
    changes = [change(f"cluster {number}", n_came=number) for number in range(70)]
    changes += [change("Mugs", n_left=1_234, fate="merged")]
    figure = cluster_changes.draw_cluster_changes(
        pd.DataFrame(changes), title="Shop: 98.7% of products kept their cluster", detail="as of today"
    )
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[:2] == ["Mugs (merged)", "cluster 69"]
    assert len(labels) == cluster_changes.MAX_BARS
    shown = texts(figure)
    assert {"\N{MINUS SIGN}1,234", "+69", "100", "kept", "went to another cluster"} <= set(shown)
    assert "left the catalogue" not in shown  # nothing did
    assert any("the 18 of 70 changed" in text.replace("\n", " ") for text in shown)


def test_drift_without_any_says_so() -> None:
    changes = pd.DataFrame([change("Mugs"), change("Tea")])
    shown = texts(cluster_changes.draw_cluster_changes(changes, title="Shop: 100% kept"))
    assert "All 2 clusters hold the same products as before." in shown


@pytest.mark.parametrize("n", [1, 10**8])
def test_figures_of_drift_touch_neither_bars_nor_each_other(n: int) -> None:
    changes = [change(name, n_came=(place + 1) * n, n_left=n) for place, name in enumerate(HOSTILE)]
    figure = cluster_changes.draw_cluster_changes(pd.DataFrame(changes), title="$\\bad{" * 30, detail="$\\bad{" * 30)
    assert png(figure).startswith(b"\x89PNG")
    axes = figure.axes[0]
    (kept,) = axes.child_axes
    labels = [label.get_window_extent() for side in (axes, kept) for label in side.get_yticklabels()]
    figures = [text.get_window_extent() for text in axes.texts]
    bars = [bar.get_window_extent() for bar in axes.patches if bar.get_width()]
    for place, box in enumerate(figures):
        assert not any(box.overlaps(other) for other in figures[place + 1 :] + labels)
        assert not any(box.overlaps(bar) for bar in bars)
