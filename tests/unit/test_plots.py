"""Pictures of hostile shop text, and labels that don't touch."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shelfkin.clustering.projection import fit_projection
from shelfkin.plotting import style
from shelfkin.plotting.elbow import draw_elbow
from shelfkin.plotting.projection import draw_projection, place_labels
from shelfkin.plotting.silhouette import draw_silhouette
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


def test_degenerate_sweeps_are_drawn() -> None:
    assert png(draw_elbow([1], [0.0], 1, title="one"))
    assert png(draw_silhouette([], [], [], 1, title="none"))


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200))
def test_safe_text_leaves_no_live_dollar_and_no_control_character(text: str) -> None:
    safe = style.safe_text(text, 50)
    assert safe.replace("\\$", "").count("$") == 0
    assert len(safe.replace("\\$", "$")) <= 50
    assert safe.isprintable() or all(character.isprintable() for character in safe.replace("□", ""))


def test_labels_never_touch() -> None:
    random = np.random.default_rng(3)
    anchors = random.normal(500, 60, size=(25, 2))
    sizes = np.tile([120.0, 20.0], (25, 1))
    spots = place_labels(anchors, sizes, (0, 0, 1000, 1000))
    apart = np.abs(spots[:, None] - spots) >= sizes
    assert (apart.any(axis=2) | np.eye(25, dtype=bool)).all()
    assert (spots - sizes / 2 >= 0).all()
    assert (spots + sizes / 2 <= 1000).all()


def test_principal_components_of_a_line() -> None:
    along = np.array([3.0, 4.0, 0.0]) / 5
    points = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])[:, None] * along
    found = fit_projection(points, np.ones(5))
    assert found.explained == pytest.approx([1, 0])
    assert found.transform(points)[:, 0] == pytest.approx([-2, -1, 0, 1, 2])


def test_identical_vectors_project_to_one_point() -> None:
    found = fit_projection(np.ones((4, 3)), np.ones(4))
    assert found.explained.tolist() == [0, 0]
    assert found.transform(np.ones((4, 3))).tolist() == [[0, 0]] * 4
