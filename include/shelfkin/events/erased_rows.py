"""Leaving out the rows of customers who were erased, before anything else looks at them."""

from __future__ import annotations

from dataclasses import replace

from pyspark.sql import Column, Observation
from pyspark.sql import functions as F  # noqa: N812

from shelfkin import sources
from shelfkin.erased_users import ErasedUsers
from shelfkin.profile import Events
from shelfkin.sources import RawTable
from shelfkin.sources.raw_table import quoted
from shelfkin.values.ids import normalised_id

# Who is in a line that can't be taken apart, nobody can tell.
_LINE = "withheld: customers of this store were erased"


def without_erased(raw: RawTable, events: Events | None, erased: ErasedUsers) -> RawTable:
    """Return raw rows of an event log without those of erased customers, as if the shop had not delivered them.

    The text of lines that can't be read is withheld as well. `RawTable.findings` then counts ``n_rows_erased``.

    Parameters
    ----------
    events
        The section of the profile that describes the rows; None: they are no event log, and stay as they are.
    """
    if events is None or not erased:
        return raw
    user_id = normalised_id(sources.text(events.fields.user_id), events.user_id)
    is_line = F.col("malformed").isNotNull()
    seen = Observation()
    frame = (
        raw.frame.withColumn("erased", F.coalesce(_is_erased(user_id, erased), F.lit(False)) & ~is_line)
        .observe(seen, F.count_if("erased").alias("n_rows_erased"))
        .where(~F.col("erased"))
    )
    texts = [name for name in raw.frame.columns if name.startswith("text:")]
    frame = frame.select(
        "raw",
        F.when(is_line, F.lit(_LINE)).alias("malformed"),
        *[F.when(~is_line, F.col(quoted(name))).alias(name) for name in texts],
    )
    return replace(raw, frame=frame, damage=lambda: {**raw.damage(), "n_rows_erased": seen.get["n_rows_erased"]})


def _is_erased(user_id: Column, erased: ErasedUsers) -> Column:
    return F.sha2(F.concat(F.lit(erased.salt), user_id), 256).isin(*sorted(erased.hashes))
