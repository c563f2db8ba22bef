"""How cleaning stages turn a row away: the first rule it breaks, with a reason code and a detail a person can read.

Rules that the catalogue and the event log share stand here as well, so that both turn the same ids and times away.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Literal

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812

from shelfkin import sources
from shelfkin.advice import advice
from shelfkin.errors import DataQualityError
from shelfkin.profile import Events, IdRule
from shelfkin.values.ids import breaks_pattern, too_long

_EXAMPLE_CHARS = 160
# The verdict on rows that the profile doesn't want: counted apart, and in no quarantine.
IGNORED = "ignored"
# As `errors.without_controls`, in the regular expressions of the JVM.
_UNPRINTABLE = r"[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]"


@dataclass(frozen=True)
class Rule:
    """One reason to turn a row away.

    Attributes
    ----------
    reason
        Reason code, snake case.
    broken
        Boolean column; NULL counts as not broken.
    detail
        String column that shows the offending value.
    """

    reason: str
    broken: Column
    detail: Column


def survey(parsed: DataFrame, moment: str, **figures: Column) -> dict[str, Any]:
    """Count rows by what becomes of them, in one pass; collects one row per reason code.

    Parameters
    ----------
    moment
        Column of a row's time.
    figures
        Aggregates of the good rows, by name.

    Returns
    -------
    dict
        rows_in, known (wanted, and before the run's date), good (of these), ignored, by_reason, first (time of the
        first row that breaks no rule, also after the run's date), last_known (of the last good row), and the figures.
        Times are seconds since 1970 UTC, or None; an event's can be a `datetime`, a catalogue's may lie outside of
        Python's years 1 to 9999. Rows turned away don't count for them.
    """
    groups = (
        parsed.groupBy("after_as_of", "reason")
        .agg(
            F.count("*").alias("n"),
            # Seconds, not a timestamp: collecting one would shift it into this machine's zone.
            F.unix_timestamp(F.min(moment)).alias("first"),
            F.unix_timestamp(F.max(moment)).alias("last"),
            *[figure.alias(name) for name, figure in figures.items()],
        )
        .collect()
    )
    known = [group for group in groups if not group["after_as_of"] and group["reason"] != IGNORED]
    ignored = sum(group["n"] for group in groups if group["reason"] == IGNORED)
    if ignored and not known:
        raise DataQualityError(
            f"All {ignored:,} rows before the run's date are of a type in events.ignore.",
            next_step="Take the types that you want out of events.ignore.",
        )
    good = next((group.asDict() for group in known if group["reason"] is None), dict[str, Any]())
    firsts = [group["first"] for group in groups if group["reason"] is None and group["first"] is not None]
    return {
        "rows_in": sum(group["n"] for group in groups),
        "known": sum(group["n"] for group in known),
        "ignored": ignored,
        "good": good.get("n", 0),
        "by_reason": summed((group["reason"], group["n"]) for group in known if group["reason"] is not None),
        "first": min(firsts, default=None),
        "last_known": good.get("last"),
        **{name: good.get(name, 0) for name in figures},
    }


def as_utc(seconds: int) -> datetime:
    """Return a time of `survey`."""
    return datetime.fromtimestamp(seconds, UTC)


def shared_rules(product_column: str, rule: IdRule) -> list[Rule]:
    """Return the rules of every raw row: it has the file's columns, and a product id as the profile wants it."""
    return [
        Rule("malformed_row", F.col("malformed").isNotNull(), shown("line", F.col("malformed"))),
        Rule("missing_product_id", F.col("product_id").isNull(), shown_raw(product_column)),
        Rule("product_id_too_long", too_long(F.col("product_id")), shown_raw(product_column)),
        Rule("not_a_product_id", breaks_pattern(F.col("product_id"), rule), shown_raw(product_column)),
    ]


def ignored_types(events: Events) -> list[Rule]:
    """Return the rule of events that the profile doesn't want; it comes before all others."""
    if not events.ignore:
        return []
    # Of the raw row itself: rules see the cleaned columns, which don't hold the texts of the source any more.
    written = F.lower(F.btrim(sources.value(events.fields.event_type).cast("string")))
    unwanted = F.col("malformed").isNull() & written.isin([word.strip().lower() for word in events.ignore])
    return [Rule(IGNORED, unwanted, F.lit(None).cast("string"))]


def time_rules(moment: str, raw_column: str, earliest: date) -> list[Rule]:
    """Return the rules of a time that was read into the column `moment`."""
    return [
        Rule("bad_time", F.col(moment).isNull(), shown_raw(raw_column)),
        Rule("implausible_time", F.col(moment) < F.lit(earliest), shown_raw(raw_column)),
    ]


def after_as_of(moment: str, cutoff: datetime) -> Column:
    """Return whether a row is of `cutoff` or later; a malformed row, or one without a time, is not."""
    return F.coalesce(F.col("malformed").isNull() & (F.col(moment) >= F.lit(cutoff)), F.lit(False))


def judged(parsed: DataFrame, rules: Sequence[Rule]) -> DataFrame:
    """Add the column `verdict`, the first rule broken; rows `after_as_of` are not judged."""
    return parsed.select("*", F.when(~F.col("after_as_of"), first_broken(rules)).alias("verdict"))


def good_rows(parsed: DataFrame) -> DataFrame:
    """Return the rows that were known as of the run's date and break no rule."""
    return parsed.where(~F.col("after_as_of") & F.col("reason").isNull())


def turned_away(parsed: DataFrame) -> DataFrame:
    """Return the rows that break a rule, as a quarantine table holds them."""
    return parsed.where(F.col("reason") != IGNORED).select("reason", "detail", "raw")


def first_broken(rules: Sequence[Rule]) -> Column:
    """Return struct(reason, detail) of the first rule that a row breaks, NULL for a good row."""
    verdict = F.lit(None).cast("struct<reason: string, detail: string>")
    for rule in reversed(rules):
        broken = F.struct(F.lit(rule.reason).alias("reason"), rule.detail.alias("detail"))
        verdict = F.when(rule.broken, broken).otherwise(verdict)
    return verdict


def shown(label: str, value: Column) -> Column:
    """Return ``label 'value'`` as a detail, with the value cut to a readable length.

    Details end up in logs and terminals, so control characters and line breaks of the value become spaces.
    """
    text = F.regexp_replace(F.substring(value.cast("string"), 1, _EXAMPLE_CHARS), _UNPRINTABLE, " ")
    return F.concat(F.lit(f"{label} '"), F.coalesce(text, F.lit("")), F.lit("'"))


def shown_raw(column: str) -> Column:
    """Return the value of a raw column as a detail."""
    return shown(column, sources.value(column))


def counts_by_reason(quarantine: DataFrame) -> dict[str, int]:
    """Return the number of rows of each reason, most frequent first (ties by name).

    Collects one row per reason code.
    """
    return summed((row["reason"], row["count"]) for row in quarantine.groupBy("reason").count().collect())


def summed(counts: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Return the sums of counts by reason, most frequent first (ties by name)."""
    total = Counter[str]()
    for reason, n in counts:
        total[reason] += n
    return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))


def check_share(
    section: Literal["catalog", "events"],
    quarantine: DataFrame,
    by_reason: Mapping[str, int],
    rows_known: int,
    limit: float,
) -> None:
    """Raise DataQualityError if too large a share of the rows was turned away, or all of them were.

    Parameters
    ----------
    section
        The profile section that describes the rows.
    quarantine
        The rows turned away, for examples: `reason`, `detail`.
    by_reason
        Their number by reason, most frequent first.
    rows_known
        Rows that were known as of the run's date.
    limit
        Largest share that the section's ``max_quarantined_share`` accepts.
    """
    quarantined = sum(by_reason.values())
    all_gone = quarantined == rows_known > 0
    if quarantined <= limit * rows_known and not all_gone:
        return
    key = f"{section}.max_quarantined_share"
    what = {"catalog": "catalogue rows", "events": "event rows"}[section]
    lines = [f"{quarantined:,} of {rows_known:,} {what} ({quarantined / rows_known:.1%}) were turned away; "]
    lines[0] += "nothing is left." if all_gone else f"{key} allows {limit:.0%}."
    for reason in list(by_reason)[:3]:
        sample = quarantine.where(F.col("reason") == reason).select("detail").distinct().orderBy("detail").limit(3)
        examples = "; ".join(str(row["detail"]) for row in sample.collect())
        lines.append(f"  {reason}: {by_reason[reason]:,} rows, for example {examples}")
        lines.append(f"    see {advice('reason', reason, section)}")
    raise DataQualityError(
        "\n".join(lines), next_step=f"Correct these keys of the profile; if the examples are expected, raise {key}."
    )
