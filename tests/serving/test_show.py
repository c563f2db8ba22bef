"""Shop text in a terminal."""

from __future__ import annotations

import unicodedata
from itertools import islice
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from finished_run import stamped_rows, write_run
from shelfkin.serving.index import open_index
from shelfkin.serving.publish import publish_run
from shelfkin.serving.show import printable, show_run


@given(st.text(max_size=300), st.integers(min_value=10, max_value=80))
def test_nothing_that_could_steer_a_terminal_is_printed(text: str, width: int) -> None:
    shown = printable(text, width)
    assert len(shown) <= width
    assert not any(unicodedata.category(character) in ("Cc", "Cf") for character in shown)


def test_escape_sequences_and_direction_overrides_lose_their_power() -> None:
    assert printable("\x1b[2Jcheap\u202e mug") == "[2Jcheap mug"


def test_a_missing_title_is_empty() -> None:
    assert printable(None) == ""


def test_long_text_without_blanks_is_cut_not_swallowed() -> None:
    assert printable("無線イヤホン" * 8, 16) == "無線イヤホン無線イヤホン ..."
    assert printable("X" * 70, 20) == "X" * 16 + " ..."


def test_a_warning_stands_on_top_and_can_not_steer_a_terminal(tmp_path: Path) -> None:
    paths, uris = write_run(tmp_path, stamped_rows(1))
    publish_run(paths, uris, publish=True)
    with open_index(paths.root, paths.root.read_json(paths.latest_uri()), tmp_path) as index:
        head = "Store shop, as of 2024-06-01 (run r1)"
        stale = list(islice(show_run(index, {}, "Stale:\x1b[2J run it again."), 3))
        assert stale == [head, "Stale:[2J run it again.", ""]
        assert list(islice(show_run(index, {}), 2)) == [head, ""]
