"""The page Backfill: what one would do (the forecast), what has been done of it since, and what is under way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from airflow.api.common.trigger_dag import trigger_dag
from airflow.api_fastapi.core_api.datamodels.backfills import BackfillPostBody
from airflow.exceptions import DagNotFound
from airflow.models.backfill import Backfill, ReprocessBehavior
from airflow.models.dagrun import DagRun
from airflow.utils.types import DagRunTriggeredByType
from sqlalchemy import select
from sqlalchemy.orm import Session

from shelfkin.artifacts import FORMAT_VERSION, Manifest, forecast_uri
from shelfkin.errors import ArtifactError
from shelfkin.schedule import data_intervals
from shelfkin_airflow.ui.shop import Shop

FORECAST_DAG = "backfill_forecast"
_FORECAST_TASK = "forecast_backfill"
# The newest forecasts of all shops that are looked through for this shop's.
_N_LOOKED_AT = 50
_N_DAYS = 7


@dataclass(frozen=True)
class BackfillPage:
    """What the page shows.

    Attributes
    ----------
    first, last
        Days that the form begins with.
    forecast
        The newest forecast, each of its days with ``done``: the texts that its run has embedded since, or None.
    asking
        State of the newest forecast's DAG run, while it hasn't succeeded; ``why`` it failed, if it says so.
    running
        The backfill of this shop that Airflow is at work on.
    """

    first: date | None
    last: date | None
    forecast: dict[str, Any] | None
    asking: str | None
    why: str
    running: Backfill | None


def backfill_page(shop: Shop, session: Session) -> BackfillPage:
    """Return what is known of a shop's backfills."""
    forecast = _forecast(shop)
    days = shop.days()
    first, last = (days[:_N_DAYS][-1], days[0]) if days else (None, None)
    if forecast:
        first, last = date.fromisoformat(forecast["from_day"]), date.fromisoformat(forecast["as_of"])
    run = _newest_forecast_run(shop, session)
    asking, why = (None, "") if run is None or run.state == "success" else (str(run.state), _why_failed(shop, run))
    under_way = select(Backfill).where(Backfill.dag_id == shop.dag_id, Backfill.completed_at.is_(None))
    return BackfillPage(first, last, forecast, asking, why, session.scalar(under_way))


def backfill_request(shop: Shop, first: date, last: date) -> BackfillPostBody:
    """Return what Airflow is asked for: the days anew, also those that have run, oldest first, one at a time.

    Raises
    ------
    OptionError
        The shop has no schedule, or none of its runs is as of these days.
    """
    intervals = data_intervals(shop.profile, first, last)
    return BackfillPostBody(
        dag_id=shop.dag_id,
        from_date=intervals[0][0],
        to_date=intervals[-1][0],
        run_backwards=False,
        dag_run_conf={},
        reprocess_behavior=ReprocessBehavior.COMPLETED,
        max_active_runs=1,
    )


def ask_for_forecast(shop: Shop, first: date, last: date, user: str) -> None:
    """Trigger the DAG that makes a forecast.

    Raises
    ------
    OptionError
        As `backfill_request`.
    ArtifactError
        Airflow doesn't know the DAG yet.
    """
    data_intervals(shop.profile, first, last)
    conf = {"store": shop.store, "from_day": first.isoformat(), "to_day": last.isoformat()}
    try:
        trigger_dag(FORECAST_DAG, triggered_by=DagRunTriggeredByType.UI, triggering_user_name=user, conf=conf)
    except DagNotFound:
        raise ArtifactError(
            f"There is no DAG {FORECAST_DAG} yet.", next_step="Wait until Airflow has read the DAG files."
        ) from None


def _forecast(shop: Shop) -> dict[str, Any] | None:
    uri = forecast_uri(shop.root, shop.store)
    if not shop.root.exists(uri):
        return None
    forecast = shop.root.read_json(uri)
    if forecast.get("format_version") != FORMAT_VERSION:
        return None
    days = [{**day, "done": _embedded_since(shop, day, forecast["made_at"])} for day in forecast["days"]]
    return {**forecast, "days": days, "n_done": sum(day["done"] is not None for day in days)}


def _embedded_since(shop: Shop, day: Mapping[str, Any], made_at: str) -> int | None:
    """Return how many texts the day's run embedded, if it was published after the forecast was made."""
    pointer = shop.pointer(date.fromisoformat(day["as_of"]))
    if pointer is None or pointer["published_at"] <= made_at:
        return None
    embedded = Manifest.read(shop.root, pointer["manifests"]["embed_products"])
    return int(embedded.content["metrics"]["texts_embedded"])


def _newest_forecast_run(shop: Shop, session: Session) -> DagRun | None:
    newest = select(DagRun).where(DagRun.dag_id == FORECAST_DAG).order_by(DagRun.id.desc()).limit(_N_LOOKED_AT)
    return next((run for run in session.scalars(newest) if (run.conf or {}).get("store") == shop.store), None)


def _why_failed(shop: Shop, run: DagRun) -> str:
    last = date.fromisoformat((run.conf or {})["to_day"])
    error = shop.error(shop.run(last, run.run_id), _FORECAST_TASK)
    return " ".join(filter(None, (error["message"], error["next_step"]))) if error else ""
