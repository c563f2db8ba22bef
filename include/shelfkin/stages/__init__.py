"""What each stage does: what it reads, in which steps, and what it writes. One module a stage."""

# In the order of a run.
STAGES = (
    "clean_catalog",
    "clean_events",
    "embed_products",
    "select_k",
    "cluster_products",
    "evaluate_recommenders",
    "build_recommendations",
)
