"""Names and schemas of the contract tables.

Schemas are Spark DDL strings, so that this module can be imported where pyspark isn't (the DAG processor, the UI).
A stage may write more columns than a contract names; it may not drop, rename or retype these.
"""

from __future__ import annotations

PRODUCTS = "products"
PRODUCTS_QUARANTINE = "products_quarantine"
PRODUCTS_REPORT = "products_report"
EVENTS = "events"
EVENTS_QUARANTINE = "events_quarantine"
EVENTS_REPORT = "events_report"
PRODUCT_VECTORS = "product_vectors"
EMBEDDING_LEDGER = "embedding_ledger"
EMBEDDING_REFUSED = "embedding_refused"
K_SCORES = "k_scores"
PRODUCT_CLUSTERS = "product_clusters"
CLUSTERS = "clusters"
CLUSTER_PROJECTION = "cluster_projection"
SIMILAR_PRODUCTS = "similar_products"
PRODUCT_VARIANTS = "product_variants"
USER_RECOMMENDATIONS = "user_recommendations"
POPULAR_PRODUCTS = "popular_products"
RECOMMENDER_METRICS = "recommender_metrics"
RANKERS = "rankers"
BASELINE_PARAMETERS = "baseline_parameters"
PREPARED_PRODUCTS = "prepared_products"
TIMELINES = "timelines"

_REPORT = "topic string, name string, rows bigint, read bigint, empty bigint, unread bigint, examples array<string>"

SCHEMAS: dict[str, str] = {
    PRODUCTS: (
        "product_id string, title string, description string, brand string, category_path array<string>, "
        "price double, currency string, in_stock boolean, embedding_text string, text_hash string, updated_at timestamp"
    ),
    # The raw row as one JSON object of the source's own column names, and why it was turned away.
    PRODUCTS_QUARANTINE: "reason string, detail string, raw string",
    # What became of the raw rows: by field, reason to turn rows away, event type and repeated title (`data_report`).
    PRODUCTS_REPORT: _REPORT,
    EVENTS: (
        "user_id string, product_id string, event_type string, occurred_at timestamp, quantity double, order_id string"
    ),
    EVENTS_QUARANTINE: "reason string, detail string, raw string",
    EVENTS_REPORT: _REPORT,
    # One row per distinct embedding text, not per product: exact twins share a vector.
    PRODUCT_VECTORS: "text_hash string, n_products bigint, vector array<float>",
    # One row per request, also of earlier runs that ended without a manifest. `n_tokens` is our count,
    # `n_tokens_billed` the server's; `n_tokens_unconfirmed` may have been billed although no usable answer came.
    EMBEDDING_LEDGER: (
        "request_id string, journal string, requested_at timestamp, model string, n_inputs bigint, n_tokens bigint, "
        "n_tokens_billed bigint, n_tokens_unconfirmed bigint, n_retries bigint, status string, http_status int, "
        "latency_s double, cost_usd double, server_request_id string, shard string"
    ),
    # Texts of this run that the server refuses for good: their products have no vector.
    EMBEDDING_REFUSED: "text_hash string, n_products bigint, reason string, detail string",
    K_SCORES: (
        "k int, inertia double, silhouette double, silhouette_se double, stability double, "
        "stability_se double, smallest_share double, largest_share double, chosen boolean"
    ),
    PRODUCT_CLUSTERS: "product_id string, cluster_id int, distance float",
    CLUSTERS: (
        "cluster_id int, name string, size bigint, top_terms array<string>, "
        "representative_product_ids array<string>, status string"
    ),
    CLUSTER_PROJECTION: "text_hash string, cluster_id int, x float, y float",
    SIMILAR_PRODUCTS: (
        "product_id string, rank int, similar_product_id string, score float, content_score float, "
        "co_purchase_score float"
    ),
    # Products that are one in other sizes, colours or packs; the group bears the lowest of their ids.
    PRODUCT_VARIANTS: "product_id string, variant_group string",
    USER_RECOMMENDATIONS: (
        "user_id string, rank int, product_id string, score float, strategy string, "
        "reasons array<struct<product_id: string, share: float>>"
    ),
    POPULAR_PRODUCTS: "scope string, rank int, product_id string, score float",
    RECOMMENDER_METRICS: (
        "model string, task string, cut date, horizon_days int, metric string, k int, value double, users bigint"
    ),
    # For each task that enough was known of to learn from, the ranker in LightGBM's own text format: the one that was
    # judged (role backtest) and the one that makes the lists (role production).
    RANKERS: "task string, ranker string, role string",
    # Every choice of parameters (a JSON object) that was tried for a baseline on the window before the judged one, and
    # which one it is judged with.
    BASELINE_PARAMETERS: "task string, model string, parameters string, ndcg double, chosen boolean",
    # What building reads of evaluation's work. Products with the text in the middle of their group of variants, and
    # their shelves as numbers (`recommending.catalogue`).
    PREPARED_PRODUCTS: (
        "product_id string, text_hash string, group_text_hash string, on_sale boolean, price double, brand string, "
        "cluster_id int, department int, category int, category_brand int"
    ),
    # Every customer's events in one row (`recommending.timelines`).
    TIMELINES: (
        "kind int, id string, seen_at bigint, items array<int>, types array<int>, orders array<int>, "
        "started_at array<bigint>, ended_at array<bigint>"
    ),
}

PUBLISHED = (
    CLUSTERS,
    PRODUCT_CLUSTERS,
    PRODUCTS,
    SIMILAR_PRODUCTS,
    PRODUCT_VARIANTS,
    USER_RECOMMENDATIONS,
    POPULAR_PRODUCTS,
)
