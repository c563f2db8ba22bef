"""Ids that join: one spelling for what exports, spreadsheets and data frames make of the same id."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.profile import IdRule
from shelfkin.values.numbers import let

# Postgres refuses a key of more than 2,704 bytes; 255 characters have at most 1,020, and two of them fit as well.
MAX_CHARS = 255

# What only some ids hold. All others are done: printable ASCII without a blank, a quote, a full stop or a plus.
_PLAIN = r"^[!-~&&[^'=.+]]*$"
# Direction marks, joiners, soft hyphens, byte order marks, fillers and variation selectors.
_INVISIBLE = r"[\p{Cf}\p{Cc}\u034F\u115F\u1160\u17B4\u17B5\u3164\uFFA0\uFE00-\uFE0F]"
# A spreadsheet's ="00123", and the apostrophe that keeps its zeros.
_WRAPPED = r"^(?:=\"|'|\s)+(.*?)[\"'\s]*$"
_WHOLE_FLOAT = r"^(-?(?:0|[1-9]\d*))\.0+$"
# As Java (1.234567E7) and R (1e+05) write large numbers; "1E5" alone is an article number like any other.
_POWER = r"^-?[1-9](?:\.\d+[eE]\+?\d{1,2}|[eE]\+\d{2})$"


def normalised_id(written: Column, rule: IdRule) -> Column:
    """Return an id as the rule writes it; blank is NULL.

    Before the rule, what a person doesn't see goes: invisible characters, outer white space, a spreadsheet's
    ``="00123"`` and leading apostrophe, and the decimals of a whole number that was kept as a float (``12345670.0``,
    ``1.234567E7``). Accents are composed (NFC). Then the rule's suffix is stripped and case folded.

    Parameters
    ----------
    written
        Text column.
    """
    found = F.when(written.rlike(_PLAIN), written).otherwise(_tidied(written))
    if rule.strip_suffix:
        kept = found.substr(F.lit(1), F.length(found) - F.lit(len(rule.strip_suffix)))
        found = F.when(found.endswith(F.lit(rule.strip_suffix)), kept).otherwise(found)
    if rule.case != "keep":
        found = F.upper(found) if rule.case == "upper" else F.lower(found)
    return F.nullif(found, F.lit(""))


def _tidied(written: Column) -> Column:
    seen = F.regexp_replace(F.regexp_replace(written, _INVISIBLE, ""), r"\p{Z}", " ")
    bare = F.regexp_replace(F.btrim(F.regexp_replace(seen, _WRAPPED, "$1")), _WHOLE_FLOAT, "$1")
    whole = let(bare, lambda found: F.when(found.rlike(_POWER), _written_out(found)).otherwise(found))
    # Not inside the lambda: where Spark interprets, as `make check` has it do, a call by reflection fails there.
    return F.when(written.rlike(r"[^\x00-\x7F]"), _composed(whole)).otherwise(whole)


def _written_out(power: Column) -> Column:
    """Return 1.234567E7 as 12345670; what isn't whole, or is too long for a decimal, stays."""
    exact = power.cast("decimal(38,9)")
    return F.coalesce(F.when(exact == F.floor(exact), F.floor(exact).cast("string")), power)


def _composed(text: Column) -> Column:
    """Return a text in NFC, by the ICU library that Spark brings along."""
    return F.reflect(F.lit("com.ibm.icu.text.Normalizer"), F.lit("compose"), text, F.lit(False))


def too_long(normalised: Column) -> Column:
    """Return whether an id has too many characters for a database's key."""
    return F.length(normalised) > MAX_CHARS


def breaks_pattern(normalised: Column, rule: IdRule) -> Column:
    """Return whether an id that was normalised doesn't match the rule's pattern as a whole."""
    if rule.pattern == ".+":
        return F.lit(False)
    return ~normalised.rlike(f"^(?:{rule.pattern})$")
