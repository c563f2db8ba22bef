"""What tables lose when customers are erased."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from shelfkin import tables
from shelfkin.erased_users import WITHHELD as WITHHELD_TEXT
from shelfkin.erased_users import ErasedUsers
from shelfkin.profile import StoreProfile
from shelfkin.serving.table_rewrite import WITHHELD, Cut

# `recommending.timelines.USER`; its module needs Spark.
_TIMELINE_OF_USER = 0


def erasing_cut(table: str, profile: StoreProfile, erased: ErasedUsers) -> Cut | None:
    """Return what a table loses; None for tables that know no customers."""
    from_events = {tables.EVENTS_QUARANTINE, tables.EVENTS_REPORT}
    if profile.catalog_events is not None:
        from_events |= {tables.PRODUCTS_QUARANTINE, tables.PRODUCTS_REPORT}
    if table in (tables.EVENTS, tables.USER_RECOMMENDATIONS):
        return Cut(["user_id"], partial(_without_users, erased))
    if table == tables.TIMELINES:
        return Cut(["kind", "id"], partial(_without_timelines, erased))
    if table not in from_events:
        return None
    if table.endswith("_report"):
        return Cut(["examples"], partial(_without_examples, erased))
    column = profile.events.fields.user_id if profile.events else ""
    return Cut(["reason", "detail", "raw"], partial(_without_raw_rows, erased, column))


def _without_users(erased: ErasedUsers, rows: pa.Table) -> tuple[pa.Table, Counter[str]]:
    return _without(rows, _is_in(rows["user_id"], erased))


def _without_timelines(erased: ErasedUsers, rows: pa.Table) -> tuple[pa.Table, Counter[str]]:
    return _without(rows, pc.and_(_is_in(rows["id"], erased), pc.equal(rows["kind"], _TIMELINE_OF_USER)))


def _is_in(ids: pa.ChunkedArray, erased: ErasedUsers) -> pa.ChunkedArray:
    return pc.is_in(ids, pa.array(erased.among(pc.unique(ids).to_pylist()), pa.string()))


def _without(rows: pa.Table, gone: pa.ChunkedArray) -> tuple[pa.Table, Counter[str]]:
    n = int(pc.sum(gone).as_py() or 0)
    return rows.filter(pc.invert(gone)), +Counter({"": n})


def _without_raw_rows(erased: ErasedUsers, column: str, rows: pa.Table) -> tuple[pa.Table, Counter[str]]:
    """Drop a customer's raw rows; of lines that couldn't be taken apart only the text goes."""
    keep, texts, lost = [], [], Counter[str]()
    for row in rows.select(["reason", "detail", "raw"]).to_pylist():
        raw, detail = row["raw"] or "", row["detail"] or ""
        try:
            fields = json.loads(raw)
        except ValueError:
            fields = {"malformed_line": raw}
        if set(fields) == {"malformed_line"}:
            named = erased.mentioned(f"{fields['malformed_line']}\n{detail}")
            lost += Counter({WITHHELD: 1}) if named else Counter()
            texts.append((WITHHELD_TEXT, json.dumps({"malformed_line": WITHHELD_TEXT})) if named else (detail, raw))
            keep.append(True)
            continue
        # A profile may have named another column when the row was read.
        written = [fields[column]] if column in fields else fields.values()
        keep.append(not any(erased.wrote(one) for one in written))
        texts.append((row["detail"], row["raw"]))
        lost += Counter() if keep[-1] else Counter({row["reason"]: 1})
    if not lost:
        return rows, lost
    for place, name in enumerate(("detail", "raw")):
        at = rows.schema.get_field_index(name)
        rows = rows.set_column(at, rows.schema.field(at), pa.array([text[place] for text in texts], pa.string()))
    return rows.filter(pa.array(keep)), lost


def _without_examples(erased: ErasedUsers, rows: pa.Table) -> tuple[pa.Table, Counter[str]]:
    given = [one or [] for one in rows["examples"].to_pylist()]
    kept = [[one for one in examples if not erased.mentioned(one)] for examples in given]
    lost = +Counter({WITHHELD: sum(before != after for before, after in zip(given, kept, strict=True))})
    at = rows.schema.get_field_index("examples")
    kind = rows.schema.field(at)
    return rows.set_column(at, kind, pa.array(kept, kind.type)), lost
