"""What a person sees in a terminal: a run's clusters, similar products and customers, and a list for a session."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from shelfkin.serving.index import Product, ServingIndex
from shelfkin.serving.session import (
    POPULAR,
    POPULAR_IN_CLUSTER,
    SIMILAR,
    TYPICAL,
    TYPICAL_OF_CLUSTER,
    SessionItem,
    SessionList,
    recommend_for_session,
)

N_CLUSTERS = 40
N_NEIGHBOURS = 8
N_BOUGHT = 6
N_REPEATS = 4
N_DISCOVERIES = 4
LEAST_SHARE_SHOWN = 0.05
METRICS_AT = 10


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


def show_run(index: ServingIndex, metrics: Mapping[str, Any], warning: str = "") -> Iterator[str]:
    """Yield the lines of the summary of a run.

    Parameters
    ----------
    metrics
        The evaluation's metrics, from the published pointer.
    warning
        One line on top, such as that the run's clusters are stale.
    """
    yield "Store {store}, as of {as_of} (run {run_id})".format(**index.run())
    if warning:
        yield printable(warning, 200)
    for part in (_clusters(index), _product(index), _customers(index), _quality(index, metrics)):
        yield ""
        yield from part


def _clusters(index: ServingIndex) -> Iterator[str]:
    clusters = [one for one in index.clusters() if one["size"] > 0]
    shown = clusters[:N_CLUSTERS]
    products = _by_id(index, [key for one in shown for key in one["representative_product_ids"] or ()])
    yield f"CLUSTERS ({len(clusters)})"
    yield f"  {'name':<38} {'products':>8}  for example"
    for one in shown:
        examples = [products[key].title for key in one["representative_product_ids"] or () if key in products]
        titles = list(dict.fromkeys(printable(title, 34) for title in examples if title))[:2]
        yield f"  {printable(one['name'], 38):<38} {one['size']:>8,}  {'; '.join(titles)}"
    if len(clusters) > len(shown):
        yield f"  ... and {len(clusters) - len(shown)} more"


def _product(index: ServingIndex) -> Iterator[str]:
    product = index.example_product()
    if product is None:
        yield "SIMILAR PRODUCTS: none in this run"
        return
    yield f"SIMILAR PRODUCTS of {printable(product.title)} [{printable(product.product_id, 30)}]"
    similar = index.similar([product.number])[product.number][:N_NEIGHBOURS]
    products = {other.number: other for other in index.numbered([one.number for one in similar])}
    for rank, one in enumerate(similar, start=1):
        other = products[one.number]
        yield (
            f"  {rank:>2}  {printable(other.title, 52):<52} [{printable(other.product_id, 30)}]  "
            f"score {one.score:.2f} (content {one.content_score:.2f}, co-purchase {one.co_purchase_score:.2f})"
        )


def _customers(index: ServingIndex) -> Iterator[str]:
    users = index.example_users()
    if not users:
        yield "CUSTOMERS: this store has no events of known customers, so there are no personal lists."
    for number, user_id in enumerate(users):
        if number:
            yield ""
        yield from _customer(index, user_id)


def _customer(index: ServingIndex, user_id: str) -> Iterator[str]:
    page = index.user(user_id)
    if page is None:
        return
    ranked = list(enumerate(page.recommendations, start=1))
    repeats = [line for line in ranked if line[1]["strategy"] == "repurchase"][:N_REPEATS]
    discoveries = [line for line in ranked if line[1]["strategy"] != "repurchase"][:N_DISCOVERIES]
    recent_ids = [event["product_id"] for event in page.recent_events]
    shown = [one for _, one in repeats + discoveries]
    of_reasons = [reason["product_id"] for one in shown for reason in one["reasons"] or ()]
    products = _by_id(index, [*recent_ids, *(one["product_id"] for one in shown), *of_reasons])
    yield f"CUSTOMER {printable(user_id, 30)}"
    yield "  bought lately:"
    for event in page.recent_events[:N_BOUGHT]:
        bought = products.get(event["product_id"])
        yield f"    {event['occurred_at'][:10]}  {printable(bought and bought.title) or '(not in the catalogue)'}"
    yield "  recommended:"
    for rank, one in repeats + discoveries:
        title = printable(_title(products, one["product_id"]), 44)
        yield f"    {rank:>2}  {title:<44}  {one['strategy']}{_because(one, products)}"
    if not discoveries:
        oldest_first = sorted((event["occurred_at"], event["product_id"]) for event in page.recent_events)
        yield from _for_the_last_basket(index, [one for _, one in oldest_first if one in products])


def _for_the_last_basket(index: ServingIndex, recent: Sequence[str]) -> Iterator[str]:
    """What goes with the last purchases, for a customer whose list holds nothing but repeats."""
    if not recent:
        return
    yield "  nothing but repeats; new, from the last purchases:"
    for item in recommend_for_session(index, recent, N_DISCOVERIES).items:
        yield f"        {printable(item.title, 44):<44}  {_why(item, 36)}"


def show_session(answer: SessionList, store: str, as_of: str) -> Iterator[str]:
    """Yield the lines of a list for a session: what of it was left out, what counts, and what is recommended."""
    if answer.n_ignored:
        n_counted = len(answer.recent) + len(answer.unknown_ids)
        yield f"Warning: only the newest {n_counted} ids count; {answer.n_ignored:,} older ones were left out."
    for product_id in answer.unknown_ids:
        yield f"Warning: {printable(product_id)} is not in the catalogue as of {as_of}; it was left out."
    if answer.recent:
        yield "Recently viewed:"
        for product_id, title in answer.recent:
            yield f"      {printable(title):<60} [{printable(product_id, 30)}]"
    else:
        yield f"None of these ids is known to store {store} (another one: STORE=...), so this is what is popular."
    yield "Recommended:"
    for item in answer.items:
        yield f"  {item.rank:>2}  {printable(item.title):<60} [{printable(item.product_id, 30)}]  {_why(item, 40)}"


def _why(item: SessionItem, width: int) -> str:
    """Return in a few words why a product is in a session's list, safe in a terminal."""
    because = printable(item.because_title or item.because_id, width)
    return {
        SIMILAR: f"similar, because of {because}",
        POPULAR_IN_CLUSTER: f"popular in the cluster of {because}",
        TYPICAL_OF_CLUSTER: f"typical of the cluster of {because}",
        POPULAR: "popular in the store",
        TYPICAL: "typical of the store",
    }[item.strategy]


def _because(recommended: Mapping[str, Any], products: Mapping[str, Product]) -> str:
    """The past products that speak for this one; those of less than 5% would only clutter the line."""
    reasons = sorted(recommended["reasons"] or [], key=lambda reason: -reason["share"])[:2]
    parts = []
    for reason in reasons:
        if reason["share"] >= LEAST_SHARE_SHOWN:
            itself = reason["product_id"] == recommended["product_id"]
            what = "buying it before" if itself else printable(_title(products, reason["product_id"]), 36)
            parts.append(f"{what} {reason['share']:.0%}")
    return f", because of {' and '.join(parts)}" if parts else ""


def _quality(index: ServingIndex, metrics: Mapping[str, Any]) -> Iterator[str]:
    if metrics.get("skipped_reason"):
        yield f"QUALITY: not judged ({metrics['skipped_reason']})"
        return
    figures = [one for one in index.metrics() if one["k"] == METRICS_AT]
    if not figures:
        yield "QUALITY: no backtest in this run"
        return
    cut, days = figures[0]["cut"], figures[0]["horizon_days"]
    yield f"QUALITY: what customers bought in the {days} days from {cut}, predicted from what came before"
    yield f"  {'task':<5} {'model':<22} {'NDCG@10':>8} {'recall@10':>10} {'customers':>10}"
    of_metric = {(one["metric"], one["task"], one["model"]): one for one in figures if one["cut"] == cut}
    ndcg = [one for one in of_metric.values() if one["metric"] == "ndcg"]
    for one in sorted(ndcg, key=lambda one: (one["task"], -one["value"])):
        recall = of_metric["recall", one["task"], one["model"]]["value"]
        yield f"  {one['task']:<5} {one['model']:<22} {one['value']:>8.4f} {recall:>10.4f} {one['users']:>10,}"


def _by_id(index: ServingIndex, product_ids: Sequence[str]) -> dict[str, Product]:
    return {product.product_id: product for product in index.products(list(dict.fromkeys(product_ids)))}


def _title(products: Mapping[str, Product], product_id: str) -> str | None:
    return products[product_id].title if product_id in products else product_id
