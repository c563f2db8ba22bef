"""How likely a column is a field, by its name alone; the words are in field_names.toml."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from functools import cache
from importlib.resources import files
from typing import Any

_GERMAN = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "ı": "i"}
)


@cache
def word_list(name: str) -> dict[str, Any]:
    """Return one of this folder's .toml files."""
    return tomllib.loads(files(__package__).joinpath(f"{name}.toml").read_text(encoding="utf-8"))


FIELDS = [name for name in word_list("field_names") if name != "files"]


def words_of(name: str) -> tuple[str, ...]:
    """Return the words of a name in lower case without accents: "Artikel-Nr." and "ArtikelNr" are (artikel, nr)."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFC", apart).casefold())
    bare = "".join(letter for letter in plain if not unicodedata.combining(letter) or "\u3040" <= letter <= "\u30ff")
    return tuple(re.findall(r"[^\W_]+", bare))


@cache
def _known(field: str) -> tuple[list[tuple[str, ...]], set[str], set[str]]:
    entry = word_list("field_names")[field]
    whole = {"".join(words_of(name)) for name in entry["whole"]}
    return [words_of(name) for name in entry["names"]], whole, {"".join(words_of(word)) for word in entry["never"]}


def name_score(field: str, column: str) -> tuple[float, str]:
    """Return how well a column's name fits a field, from 0 to 1, and the name that it resembles.

    >>> name_score("product_id", "Artikel-Nr.")[0] > name_score("product_id", "Lineitem sku")[0] > 0
    True
    >>> name_score("title", "Category name")[0]
    0.0
    """
    best = (0.0, "")
    words = words_of(column)
    # "id_order" is an order_id.
    turned = "_".join((*words[1:], "id")) if words[:1] == ("id",) else column
    for spelled in {column, column.translate(_GERMAN), turned}:
        best = max(best, _score(field, spelled))
    if best[0] == 0 and "." in column:
        # "line_items.name" is a name; "customer.name" isn't, by the words that rule it out.
        score, like = _score(field, column.rpartition(".")[2])
        if not set(words_of(column)) & _known(field)[2]:
            best = (score * 0.8, like)
    return best


def _score(field: str, column: str) -> tuple[float, str]:
    names, whole, never = _known(field)
    words = words_of(column)
    joined = "".join(words)
    if not joined:
        return 0.0, ""
    best = (0.0, "")
    for rank, name in enumerate(names):
        like, later = "_".join(name), 0.1 * rank / len(names)
        if joined == "".join(name):
            return 1.0 - later, like
        if never & set(words):
            continue
        if words[-len(name) :] == name:
            best = max(best, (0.55 + 0.05 * len(name) - later, like))
        elif any(words[i : i + len(name)] == name for i in range(len(words))):
            best = max(best, (0.4 + 0.05 * len(name) - later, like))
        elif not joined.isascii() and "".join(name) in joined and not like.isascii():
            best = max(best, (0.5 - later, like))
    if joined in whole:
        best = max(best, (0.7, joined))
    return best


def event_word(value: str) -> str | None:
    """Return the event type (or "ignore", "lost_orders") that a shop's word means, None for an unknown one."""
    joined = "".join(words_of(value.translate(_GERMAN)))
    singular = joined.removesuffix("s")
    for kind, entry in word_list("event_words").items():
        if {joined, singular} & {"".join(words_of(word)) for word in entry["words"]}:
            return kind
    return None
