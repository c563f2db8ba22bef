"""How likely a column is a field, by its name alone; the words are in field_names.toml."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from functools import cache
from importlib.resources import files
from typing import Any

_GERMAN = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue"})
# Letters that have no accent to take off.
_STROKES = str.maketrans({"ø": "o", "ł": "l", "ı": "i", "đ": "d"})


@cache
def word_list(name: str) -> dict[str, Any]:
    """Return one of this folder's .toml files."""
    return tomllib.loads(files(__package__).joinpath(f"{name}.toml").read_text(encoding="utf-8"))


FIELDS = [name for name in word_list("field_names") if name not in ("codes", "files", "guests")]


def words_of(name: str) -> tuple[str, ...]:
    """Return the words of a name in lower case without accents: "Artikel-Nr." and "ArtikelNr" are (artikel, nr)."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFC", apart).casefold().translate(_STROKES))
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
    # "id_order" is an order_id, and "cliente.id" an id_cliente.
    turned = {"_".join((*words[1:], "id"))} if words[:1] == ("id",) else set()
    turned |= {"_".join(("id", *words[:-1]))} if words[-1:] == ("id",) else set()
    for spelled in {column, column.translate(_GERMAN)} | turned:
        best = max(best, _score(field, spelled))
    if best[0] == 0 and "." in column:
        # "line_items.name" is a name; "customer.name" isn't, by the words that rule it out.
        score, like = _score(field, column.rpartition(".")[2])
        if not set(words_of(column)) & _known(field)[2]:
            best = (score * 0.75, like)
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
    """Return the event type (or "returns", "ignore", "lost_orders") that a word means, None for an unknown one."""
    words = words_of(value.translate(_GERMAN))
    joined = "".join(words)
    spellings = {joined, joined.removesuffix("s"), "".join(reversed(words))}
    for kind in word_list("event_words"):
        if spellings & _plain_words(kind):
            return kind
    return None


@cache
def _plain_words(kind: str) -> set[str]:
    return {"".join(words_of(word)) for word in word_list("event_words")[kind]["words"]}


def is_lost(status: str) -> bool:
    """Return whether an order of this status never became a purchase: "Canceled by customer", but not in part.

    >>> is_lost("Cancelled - no payment"), is_lost("partially refunded"), is_lost("refund requested")
    (True, False, False)
    """
    words = words_of(status.translate(_GERMAN))
    lost, unless = _plain_words("lost_orders"), word_list("event_words")["lost_orders"]["unless"]
    if any(word == each or (len(each) > 4 and word.startswith(each)) for word in words for each in unless):
        return False
    # Words of scripts without blanks are parts of longer ones.
    return any(word in lost or any(each in word for each in lost if not each.isascii()) for word in words)
