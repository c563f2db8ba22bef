"""Why ids of events aren't in the catalogue: the difference in writing that explains most of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import takewhile

# What is done to both sides, and what it means if they agree then.
_RULES: dict[str, Callable[[str], str]] = {
    "they differ by case: product_id: {case: upper}": str.upper,
    "one side ends with .0: product_id: {strip_suffix: '.0'}": lambda each: re.sub(r"\.0+$", "", each),
    "they differ by leading zeros: ltrim('0', ...) in a query": lambda each: re.sub(r"\.0+$", "", each).lstrip("0"),
    "they differ by punctuation: regexp_replace(upper(...), '[^A-Z0-9]', '') in a query": lambda each: re.sub(
        r"[\W_]", "", each.upper()
    ),
}


def likely_cause(event_ids: Iterable[str], catalog_ids: Iterable[str]) -> str:
    """Return what explains that event ids aren't among the catalogue's, empty if nothing known does.

    >>> likely_cause(["7", "8"], ["007", "008", "009"])
    "they differ by leading zeros: ltrim('0', ...) in a query"
    >>> likely_cause(["shop-1", "shop-2"], ["1", "2"])
    "one side begins with 'shop-': take it off in a query"
    """
    events, catalogue = list(event_ids), list(catalog_ids)
    rules = dict(_RULES)
    for side in (events, catalogue):
        begin, end = _common(side), _common([each[::-1] for each in side])[::-1]
        if prefix := re.sub(r"\d+$", "", begin):
            rules[f"one side begins with {prefix!r}: take it off in a query"] = _without(prefix, str.removeprefix)
        if suffix := re.sub(r"^\d+", "", end):
            rules[f"one side ends with {suffix!r}: take it off in a query"] = _without(suffix, str.removesuffix)
    explained = {meaning: _share(rule, events, catalogue) for meaning, rule in rules.items()}
    best = max(explained, key=lambda meaning: explained[meaning])
    return best if explained[best] > 0.2 else ""


def _common(ids: list[str]) -> str:
    """Return what all ids begin with: what the first and the last in order share."""
    pairs = zip(min(ids, default=""), max(ids, default=""), strict=False)
    return "".join(one for one, other in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _without(affix: str, cut: Callable[[str, str], str]) -> Callable[[str], str]:
    return lambda each: cut(each, affix)


def _share(rule: Callable[[str], str], events: list[str], catalogue: list[str]) -> float:
    named = {rule(each) for each in catalogue}
    return sum(rule(each) in named for each in events) / max(1, len(events))
