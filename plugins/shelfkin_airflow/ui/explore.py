"""What an index holds, as pages show it: clusters, a product, a customer and a session."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from shelfkin.serving.index import Product, ServingIndex, SimilarProduct

LEAST_SHARE_SHOWN = 0.05
N_OF_CLUSTER = 60


@dataclass(frozen=True)
class Neighbour:
    """A similar product and its scores."""

    product: Product
    score: SimilarProduct


@dataclass(frozen=True)
class ClusterPage:
    """A cluster, the products that stand for it, and its popular ones."""

    cluster: Mapping[str, Any]
    representatives: list[Product]
    products: list[Product]


@dataclass(frozen=True)
class ProductPage:
    """A product, its cluster and its neighbours."""

    product: Product
    cluster: Mapping[str, Any] | None
    neighbours: list[Neighbour]


@dataclass(frozen=True)
class Recommended:
    """One place of a customer's list, with its reasons in words and the share of each."""

    rank: int
    product_id: str
    product: Product | None
    repeat: bool
    sentence: str
    reasons: list[tuple[str, float]]


@dataclass(frozen=True)
class CustomerPage:
    """A customer's history and list; `same_title` are titles that stand on the list more than once."""

    user_id: str
    history: list[tuple[Mapping[str, Any], Product | None]]
    recommended: list[Recommended]
    same_title: frozenset[str]


def cluster_page(index: ServingIndex, cluster_id: int) -> ClusterPage | None:
    """Return a cluster, or None if the run has none of this id."""
    cluster = next((one for one in index.clusters() if one["cluster_id"] == cluster_id), None)
    if cluster is None:
        return None
    by_id = _by_id(index, cluster["representative_product_ids"] or [])
    return ClusterPage(cluster, list(by_id.values()), index.of_cluster(cluster_id, N_OF_CLUSTER))


def product_page(index: ServingIndex, product_id: str) -> ProductPage | None:
    """Return a product with its neighbours, or None if the run has none of this id."""
    products = index.products([product_id])
    if not products:
        return None
    (product,) = products
    similar = index.similar([product.number]).get(product.number, [])
    numbered = {one.number: one for one in index.numbered([one.number for one in similar])}
    cluster = next((one for one in index.clusters() if one["cluster_id"] == product.cluster), None)
    return ProductPage(product, cluster, [Neighbour(numbered[one.number], one) for one in similar])


def customer_page(index: ServingIndex, user_id: str) -> CustomerPage | None:
    """Return a customer's history and list, or None if neither is known."""
    page = index.user(user_id)
    if page is None:
        return None
    ids = [event["product_id"] for event in page.recent_events]
    ids += [one["product_id"] for one in page.recommendations]
    ids += [reason["product_id"] for one in page.recommendations for reason in one["reasons"] or ()]
    products = _by_id(index, ids)
    recommended = [_recommended(rank, one, products) for rank, one in enumerate(page.recommendations, start=1)]
    titles = [one.product.title for one in recommended if one.product and one.product.title]
    return CustomerPage(
        user_id,
        [(event, products.get(event["product_id"])) for event in page.recent_events],
        recommended,
        frozenset(title for title in titles if titles.count(title) > 1),
    )


def _recommended(rank: int, one: Mapping[str, Any], products: Mapping[str, Product]) -> Recommended:
    product_id, repeat = one["product_id"], one["strategy"] == "repurchase"
    others = sorted((reason for reason in one["reasons"] or ()), key=lambda reason: -reason["share"])
    reasons = []
    for reason in others:
        itself = reason["product_id"] == product_id
        if reason["share"] >= LEAST_SHARE_SHOWN:
            reasons.append(("bought before" if itself else _title(products, reason["product_id"]), reason["share"]))
    return Recommended(rank, product_id, products.get(product_id), repeat, _sentence(one, reasons), reasons)


def _sentence(one: Mapping[str, Any], reasons: Sequence[tuple[str, float]]) -> str:
    """Return in plain words why a product is on a list."""
    n, last = one.get("n_purchases") or 0, one.get("last_purchase")
    if n and last:
        times = "once" if n == 1 else f"{n} times"
        return f"bought {times}, last on {_day(last)}"
    if reasons:
        return f"goes with {reasons[0][0]}"
    return {"popular": "popular in the shop"}.get(one["strategy"], one["strategy"].replace("_", " "))


def _day(iso: str) -> str:
    day = date.fromisoformat(iso[:10])
    return f"{day.day} {day:%B %Y}"


def _title(products: Mapping[str, Product], product_id: str) -> str:
    product = products.get(product_id)
    return (product.title if product else None) or product_id


def _by_id(index: ServingIndex, product_ids: Iterable[str]) -> dict[str, Product]:
    return {product.product_id: product for product in index.products(list(dict.fromkeys(product_ids)))}
