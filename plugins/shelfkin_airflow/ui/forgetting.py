"""Forgetting a customer from a shop's page: no table of Airflow's gets the id, the store's list gets its hash."""

from __future__ import annotations

from airflow.api.common.trigger_dag import trigger_dag
from airflow.exceptions import DagNotFound
from airflow.utils.types import DagRunTriggeredByType

from shelfkin.erased_users import record_erased
from shelfkin.errors import ArtifactError
from shelfkin.serving.erasure import erased_users
from shelfkin.serving.forgetting import to_forget
from shelfkin_airflow.ui.shop import Shop

RETENTION_DAG = "retention"


def n_forgotten(shop: Shop) -> int:
    """Return how many of the shop's customers were forgotten."""
    return len(erased_users(shop.root, shop.profile).hashes)


def ask_to_forget(shop: Shop, customer: str, why: str, user: str) -> None:
    """Put a customer into the list that runs read, and trigger the DAG that erases them from earlier runs.

    Raises
    ------
    OptionError
        The shop knows no customers, none is named, or there is no fit reason.
    ArtifactError
        The customer is in the list, but Airflow doesn't know the DAG yet.
    """
    record_erased(shop.root, shop.store, to_forget(shop.root, shop.profile, customer), user, why)
    try:
        trigger_dag(
            RETENTION_DAG,
            triggered_by=DagRunTriggeredByType.UI,
            triggering_user_name=user,
            conf={"store": shop.store},
        )
    except DagNotFound:
        raise ArtifactError(
            f"Runs leave this customer out from now on, but there is no DAG {RETENTION_DAG} yet to erase earlier rows.",
            next_step=f"Do that by hand: make forget STORE={shop.store} YES=1",
        ) from None
