"""What a person sees of a run in a terminal: clusters, one product with its neighbours, three customers."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import Any

import duckdb

from shelfkin.recommending.recent import POPULAR, POPULAR_IN_CLUSTER, SIMILAR, TYPICAL, TYPICAL_OF_CLUSTER
from shelfkin.serving.session import SessionItem, recommend_for_session
from shelfkin.serving.session_index import SessionIndex

N_CLUSTERS = 40
N_CUSTOMERS = 3
N_LINES = 8
N_REPEATS = 4
N_DISCOVERIES = 4
LEAST_SHARE_SHOWN = 0.05


def printable(text: str | None, width: int = 60) -> str:
    """Return shop text that is safe in a terminal: no control or direction-changing characters, at most `width` wide.

    A title is data from outside; with its escape characters it could rewrite the reader's screen.
    """
    kept = "".join(
        " " if character in "\t\n" else character
        for character in text or ""
        if character in "\t\n" or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co")
    )
    kept = " ".join(kept.split())
    return kept if len(kept) <= width else kept[: width - 4].rstrip() + " ..."


def show_run(
    db: duckdb.DuckDBPyConnection, sessions: SessionIndex, metrics: dict[str, Any], warning: str = ""
) -> Iterator[str]:
    """Yield the lines of the summary of a run.

    Parameters
    ----------
    db, sessions
        The run's serving index and session index.
    metrics
        The evaluation's metrics, from the published pointer.
    warning
        One line on top, such as that the run's clusters are stale.
    """
    store, as_of, run_id = _one(db, "SELECT store, as_of, run_id FROM run")
    yield f"Store {store}, as of {as_of} (run {run_id})"
    if warning:
        yield printable(warning, 200)
    yield ""
    yield from _clusters(db)
    yield ""
    yield from _product(db)
    yield ""
    yield from _customers(db, sessions)
    yield ""
    yield from _quality(db, metrics)


def _clusters(db: duckdb.DuckDBPyConnection) -> Iterator[str]:
    rows = db.execute("""
        SELECT c.cluster_id, c.name, c.size,
               list(p.title ORDER BY position) AS examples
        FROM clusters c
        LEFT JOIN (
            SELECT cluster_id, unnest(representative_product_ids) AS product_id,
                   generate_subscripts(representative_product_ids, 1) AS position
            FROM clusters
        ) r USING (cluster_id)
        LEFT JOIN products p USING (product_id)
        WHERE c.size > 0
        GROUP BY ALL ORDER BY c.size DESC, c.cluster_id
    """).fetchall()
    yield f"CLUSTERS ({len(rows)})"
    yield f"  {'name':<38} {'products':>8}  for example"
    for _, name, size, examples in rows[:N_CLUSTERS]:
        titles = list(dict.fromkeys(printable(title, 34) for title in examples if title))[:2]
        yield f"  {printable(name, 38):<38} {size:>8,}  {'; '.join(titles)}"
    if len(rows) > N_CLUSTERS:
        yield f"  ... and {len(rows) - N_CLUSTERS} more"


def _product(db: duckdb.DuckDBPyConnection) -> Iterator[str]:
    """The most popular product that has neighbours, or else the first by id."""
    chosen = db.execute("""
        SELECT s.product_id FROM (SELECT DISTINCT product_id FROM similar_products) s
        LEFT JOIN (SELECT product_id, max(score) AS score FROM popular_products WHERE scope = 'all' GROUP BY ALL) p
        USING (product_id)
        ORDER BY p.score DESC NULLS LAST, s.product_id LIMIT 1
    """).fetchone()
    if chosen is None:
        yield "SIMILAR PRODUCTS: none in this run"
        return
    (title,) = _one(db, "SELECT title FROM products WHERE product_id = ?", chosen[0])
    yield f"SIMILAR PRODUCTS of {printable(title)} [{printable(chosen[0], 30)}]"
    rows = db.execute(
        """
        SELECT s.rank, s.similar_product_id, p.title, s.score, s.content_score, s.co_purchase_score
        FROM similar_products s LEFT JOIN products p ON p.product_id = s.similar_product_id
        WHERE s.product_id = ? ORDER BY s.rank LIMIT ?
        """,
        [chosen[0], N_LINES],
    ).fetchall()
    for rank, product_id, other, score, content, co_purchase in rows:
        yield (
            f"  {rank:>2}  {printable(other, 52):<52} [{printable(product_id, 30)}]  "
            f"score {score:.2f} (content {content:.2f}, co-purchase {co_purchase or 0:.2f})"
        )


def _customers(db: duckdb.DuckDBPyConnection, sessions: SessionIndex) -> Iterator[str]:
    """Three customers whose lists differ in kind: those with the median, the most and few recent events."""
    users = [
        row[0]
        for row in db.execute("""
            WITH counts AS (
                SELECT r.user_id, count(e.product_id) AS n
                FROM (SELECT DISTINCT user_id FROM user_recommendations) r
                JOIN recent_events e USING (user_id) GROUP BY ALL
            ), ranked AS (
                SELECT user_id, row_number() OVER (ORDER BY n DESC, md5(user_id)) AS position, count(*) OVER () AS total
                FROM counts
            )
            SELECT user_id FROM ranked
            WHERE position IN (1, 1 + total // 2, 1 + (9 * total) // 10) ORDER BY position
        """).fetchall()
    ]
    if not users:
        yield "CUSTOMERS: this store has no events of known customers, so there are no personal lists."
        return
    for number, user in enumerate(users[:N_CUSTOMERS]):
        if number:
            yield ""
        yield from _customer(db, sessions, user)


def _customer(db: duckdb.DuckDBPyConnection, sessions: SessionIndex, user: str) -> Iterator[str]:
    yield f"CUSTOMER {printable(user, 30)}"
    yield "  bought lately:"
    bought = db.execute(
        """
        SELECT e.occurred_at::DATE, p.title FROM recent_events e LEFT JOIN products p USING (product_id)
        WHERE e.user_id = ? ORDER BY e.occurred_at DESC, e.product_id LIMIT 6
        """,
        [user],
    ).fetchall()
    for day, title in bought:
        yield f"    {day}  {printable(title) or '(not in the catalogue)'}"
    yield "  recommended:"
    yield from _recommended(db, user, "r.strategy = 'repurchase'", N_REPEATS)
    discoveries = list(_recommended(db, user, "r.strategy <> 'repurchase'", N_DISCOVERIES))
    yield from discoveries or _for_the_last_basket(db, sessions, user)


def _recommended(db: duckdb.DuckDBPyConnection, user: str, condition: str, n: int) -> Iterator[str]:
    """The best `n` of a kind, each with its place in the list: repeats would else hide what is new to the customer."""
    rows = db.execute(
        f"""
        SELECT r.rank, r.product_id, p.title, r.strategy, r.reasons
        FROM user_recommendations r LEFT JOIN products p USING (product_id)
        WHERE r.user_id = ? AND {condition} ORDER BY r.rank LIMIT ?
        """,
        [user, n],
    ).fetchall()
    for rank, product_id, title, strategy, reasons in rows:
        yield f"    {rank:>2}  {printable(title, 44):<44}  {strategy}{_because(db, product_id, reasons)}"


def _for_the_last_basket(db: duckdb.DuckDBPyConnection, sessions: SessionIndex, user: str) -> Iterator[str]:
    """What goes with the last purchases, for a customer whose list holds nothing but repeats."""
    recent = [
        product_id
        for (product_id,) in db.execute(
            """
            SELECT e.product_id FROM recent_events e JOIN products USING (product_id)
            WHERE e.user_id = ? ORDER BY e.occurred_at, e.product_id
            """,
            [user],
        ).fetchall()
    ]
    if not recent:
        return
    yield "  nothing but repeats; new, from the last purchases:"
    for item in recommend_for_session(sessions, recent, N_DISCOVERIES).items:
        yield f"        {printable(item.title, 44):<44}  {why(item, 36)}"


def why(item: SessionItem, width: int) -> str:
    """Return in a few words why a product is in a session's list, safe in a terminal."""
    because = printable(item.because_title or item.because_id, width)
    return {
        SIMILAR: f"similar, because of {because}",
        POPULAR_IN_CLUSTER: f"popular in the cluster of {because}",
        TYPICAL_OF_CLUSTER: f"typical of the cluster of {because}",
        POPULAR: "popular in the store",
        TYPICAL: "typical of the store",
    }[item.strategy]


def _because(db: duckdb.DuckDBPyConnection, product_id: str, reasons: list[dict[str, Any]] | None) -> str:
    """The past products that speak for this one; those of less than 5% would only clutter the line."""
    parts = []
    for reason in sorted(reasons or [], key=lambda entry: -entry["share"])[:2]:
        if reason["share"] < LEAST_SHARE_SHOWN:
            continue
        if reason["product_id"] == product_id:
            parts.append(f"buying it before {reason['share']:.0%}")
            continue
        row = db.execute("SELECT title FROM products WHERE product_id = ?", [reason["product_id"]]).fetchone()
        parts.append(f"{printable(row[0] if row else reason['product_id'], 36)} {reason['share']:.0%}")
    return f", because of {' and '.join(parts)}" if parts else ""


def _quality(db: duckdb.DuckDBPyConnection, metrics: dict[str, Any]) -> Iterator[str]:
    if metrics.get("skipped_reason"):
        yield f"QUALITY: not judged ({metrics['skipped_reason']})"
        return
    rows = db.execute("""
        SELECT cut, horizon_days, task, model,
               max(value) FILTER (metric = 'ndcg'), max(value) FILTER (metric = 'recall'), max(users)
        FROM recommender_metrics WHERE k = 10 GROUP BY ALL ORDER BY cut DESC, task, 5 DESC
    """).fetchall()
    if not rows:
        yield "QUALITY: no backtest in this run"
        return
    cut, horizon_days = rows[0][:2]
    yield f"QUALITY: what customers bought in the {horizon_days} days from {cut}, predicted from what came before"
    yield f"  {'task':<5} {'model':<22} {'NDCG@10':>8} {'recall@10':>10} {'customers':>10}"
    for row_cut, _, task, model, ndcg, recall, users in rows:
        if row_cut == cut:
            yield f"  {task:<5} {model:<22} {ndcg:>8.4f} {recall:>10.4f} {users:>10,}"


def _one(db: duckdb.DuckDBPyConnection, query: str, *values: object) -> tuple[Any, ...]:
    row = db.execute(query, list(values)).fetchone()
    return row if row is not None else (None,)
