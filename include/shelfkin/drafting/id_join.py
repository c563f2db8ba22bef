"""Which columns of two files hold the same ids, and by which rule they are written alike."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import takewhile

import duckdb

from shelfkin.drafting.shop_file import ident, literal

# How ids of one thing differ between two programs: in DuckDB's SQL, and in Spark's where a profile has no key for it.
RULES = {
    "as they are": ("{c}", None),
    "without .0": (r"regexp_replace({c}, '\.0+$', '')", None),
    "in one case": ("upper({c})", None),
    "without leading zeros": (
        r"regexp_replace(regexp_replace({c}, '\.0+$', ''), '^0+(.)', '\1')",
        "regexp_replace(regexp_replace({c}, '^=\"|\"$|[.]0+$', ''), '^0+(.)', '$1')",
    ),
    "without punctuation": (
        "regexp_replace(upper({c}), '[^A-Z0-9]', '', 'g')",
        "regexp_replace(upper({c}), '[^A-Z0-9]', '')",
    ),
}
# Spreadsheets and cautious programs wrap ids; the reader of the stages unwraps these by itself.
_BARE = "regexp_replace(trim({c}), '^=\"(.*)\"$|^''(.*)$', '\\1\\2')"


@dataclass(frozen=True)
class Join:
    """How rows of one file name rows of another.

    Attributes
    ----------
    left, right
        Columns: of the file that names (events, lines), and of the file that is named (catalogue, orders).
    rule
        Key of `RULES`, or "without <prefix>".
    share
        Of the left rows with an id, how many name a right one.
    as_they_are
        The same share without any rule.
    prefix
        What stands before every id of one side.
    """

    left: str
    right: str
    rule: str
    share: float
    as_they_are: float
    prefix: str = ""

    def spark(self, column: str) -> str | None:
        """Return the id as Spark SQL, None where a key of the profile does it."""
        if self.prefix:
            rest = f"substring({column}, {len(self.prefix) + 1})"
            return f"if(startswith({column}, {literal(self.prefix)}), {rest}, {column})"
        expression = RULES[self.rule][1]
        return None if expression is None else expression.format(c=column)


def best_join(
    session: duckdb.DuckDBPyConnection, left: tuple[str, list[str]], right: tuple[str, list[str]]
) -> Join | None:
    """Return the pair of columns, and the rule, by which most rows of `left` name a row of `right`.

    Parameters
    ----------
    left, right
        A table and its columns that may hold the id, the likeliest first. A later pair must be clearly better.
    """
    pairs = [(one, other) for one in left[1] for other in right[1]]
    shares: dict[tuple[str, str], float] = {}
    for one, other in pairs:
        shares[one, other] = _share(session, left[0], one, right[0], other, "{c}")
        if shares[one, other] > 0.9:
            break
    if not pairs:
        return None
    # In the order of likelihood: a later pair must be clearly better.
    first = pairs[0]
    best = max(shares, key=lambda pair: (round(shares[pair] - 0.1 * (pair != first), 3), -pairs.index(pair)))
    tried = [_by_rule(session, left[0], right[0], *pair, shares[pair]) for pair in dict.fromkeys((first, best))]
    join = max(tried, key=lambda each: each.share)
    if join.share < 0.5:
        # No pair joins as it is: a rule may be needed for one that is less likely by its name.
        tried = [_by_rule(session, left[0], right[0], *pair, shares[pair]) for pair in pairs[:24]]
        join = max([join, *tried], key=lambda each: round(each.share, 3))
    return join if join.share > 0.02 else None


def _by_rule(session: duckdb.DuckDBPyConnection, left: str, right: str, one: str, other: str, plain: float) -> Join:
    """Return the join of two columns by the strictest rule that does; a looser rule must earn its place."""
    best = Join(one, other, "as they are", plain, plain)
    if plain > 0.9:
        return best
    for rule, (sql, _) in RULES.items():
        share = _share(session, left, one, right, other, sql)
        if share > best.share + 0.02:
            best = Join(one, other, rule, share, plain)
    prefix = _prefix(session, left, one) or _prefix(session, right, other)
    if prefix and best.share < 0.5:
        pattern = re.escape(prefix).replace("'", "''")
        share = _share(session, left, one, right, other, f"regexp_replace({{c}}, '^{pattern}', '')")
        if share > best.share + 0.02:
            best = Join(one, other, f"without {prefix}", share, plain, prefix)
    return best


def _share(session: duckdb.DuckDBPyConnection, left: str, one: str, right: str, other: str, rule: str) -> float:
    def key(column: str) -> str:
        return rule.format(c=_BARE.format(c=ident(column)))

    row = session.execute(
        f"WITH ids AS (SELECT {key(one)} AS id, count(*) AS n FROM {ident(left)} "
        f"WHERE {ident(one)} IS NOT NULL GROUP BY 1), "
        f"named AS (SELECT {key(other)} AS id FROM {ident(right)} WHERE {ident(other)} IS NOT NULL) "
        "SELECT sum(n) FILTER (id IN (SELECT id FROM named)), sum(n) FROM ids"
    ).fetchone()
    return float(row[0] or 0) / float(row[1]) if row and row[1] else 0.0


def _prefix(session: duckdb.DuckDBPyConnection, table: str, column: str) -> str:
    rows = session.execute(
        f"SELECT DISTINCT {ident(column)} FROM {ident(table)} WHERE {ident(column)} IS NOT NULL LIMIT 500"
    ).fetchall()
    ids = sorted(str(row[0]) for row in rows)
    # What the first and the last in order share, all share.
    common = "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(ids[0], ids[-1], strict=False)))
    return re.sub(r"\d+$", "", common) if len(ids) > 5 else ""


def examples(session: duckdb.DuckDBPyConnection, table: str, column: str) -> list[str]:
    """Return two ids of a column."""
    rows = session.execute(
        f"SELECT DISTINCT {ident(column)} FROM {ident(table)} WHERE {ident(column)} IS NOT NULL LIMIT 2"
    )
    return [str(row[0]) for row in rows.fetchall()]


def group_key(session: duckdb.DuckDBPyConnection, table: str, value: str, keys: list[str]) -> str | None:
    """Return the column in whose groups `value` stands once and is blank below: Shopify's Handle for Title.

    Such files write what rows of one product or order share on the first of them only.
    """
    for key in keys:
        row = session.execute(
            f"SELECT count(*), count(*) FILTER (n = 1), sum(rows) FROM (SELECT count(DISTINCT {ident(value)}) AS n, "
            f"count(*) AS rows FROM {ident(table)} WHERE {ident(key)} IS NOT NULL GROUP BY {ident(key)})"
        ).fetchone()
        if row and row[0] and row[1] / row[0] >= 0.95 and row[2] / row[0] > 1.05:
            return key
    return None
