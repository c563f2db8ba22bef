"""What each stage does: what it reads, in which steps, and what it writes. One module a stage."""

from importlib import import_module

from shelfkin.app import App

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


def app_of(stage: str) -> App:
    """Return a stage as a program. Its module is imported only now: each stage needs other libraries."""
    app: App = import_module(f"shelfkin.stages.{stage}").APP
    return app
