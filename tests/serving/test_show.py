"""Shop text in a terminal."""

from __future__ import annotations

import unicodedata
from itertools import islice
from pathlib import Path

import duckdb
from hypothesis import given
from hypothesis import strategies as st

from shelfkin.serving.session_index import SessionIndex
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


def test_a_warning_stands_on_top_and_can_not_steer_a_terminal() -> None:
    db = duckdb.connect()
    db.execute("CREATE TABLE run AS SELECT 'shop' AS store, '2011-11-02' AS as_of, 'r' AS run_id")
    head = "Store shop, as of 2011-11-02 (run r)"
    sessions = SessionIndex(Path("/not/asked"))
    stale = list(islice(show_run(db, sessions, {}, "Stale:\x1b[2J run it again."), 3))
    assert stale == [head, "Stale:[2J run it again.", ""]
    assert list(islice(show_run(db, sessions, {}), 2)) == [head, ""]
