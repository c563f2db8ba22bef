"""Titles that a field of fixed width cut off: their last word is a fragment ("mineral wat") and names nothing.

Tills and old databases keep descriptions of 20 to 40 characters. Where they cut, far more titles are exactly as long as
the longest one than are a character shorter; elsewhere the longest titles are the rarest. A title's field ends at its
first comma, since profiles join columns with one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from shelfkin.naming.product_texts import ProductText

MIN_WIDTH = 20
# Complete Journey: 10% of the products fill 30 characters, 3% have 29. Online Retail's longest have 35: 4%, and 5% 34.
MIN_SHARE = 0.01
MIN_RATIO = 2.0

_LAST_WORD = re.compile(r"^([^,]*?)[^\W\d_]+(?=,|$)")


def without_fragments(texts: Sequence[ProductText]) -> list[ProductText]:
    """Return texts without the last word of titles that were cut off; see the module's head."""
    counts: Counter[int] = Counter()
    for text in texts:
        counts[_field_length(text)] += text.n_products
    width = field_width(counts)
    return [
        replace(text, title=_LAST_WORD.sub(r"\1", text.title)) if _field_length(text) == width else text
        for text in texts
    ]


def _field_length(text: ProductText) -> int:
    return len(text.title.partition(",")[0])


def field_width(counts: Mapping[int, int]) -> int | None:
    """Return the width of the field that cut titles off, None where none did.

    Parameters
    ----------
    counts
        Number of products by length of the title's field, in characters.
    """
    if not counts:
        return None
    width = max(counts)
    enough = max(MIN_RATIO * counts.get(width - 1, 0), MIN_SHARE * sum(counts.values()))
    return width if width >= MIN_WIDTH and counts[width] >= enough else None
