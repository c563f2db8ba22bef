"""Who is told that a task failed, that the gate refused a run, or that nothing was published in time."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import date, datetime
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

from airflow.sdk import BaseNotifier, Context
from airflow.sdk.configuration import conf
from airflow.sdk.log import mask_secret
from airflow.sdk.module_loading import import_string

from shelfkin.errors import GateError, without_controls
from shelfkin.profile import StoreProfile
from shelfkin.settings import Settings

TIMEOUT_S = 10
_LONGEST = 2_000
# By the kind of an error's account; every other kind is a failure.
_EVENTS = {"late": "late", GateError.kind: "refused"}


class RunNotifier(BaseNotifier):
    """Writes what happened to the log, sends it to a webhook, and hands it to Airflow's other notifiers.

    Of a task (``on_failure_callback``), or of a run that missed its deadline (``SyncCallback``). The webhook and the
    notifiers are those of ``SHELFKIN_NOTIFY_WEBHOOK`` and ``SHELFKIN_NOTIFIERS``, read when there is something to tell:
    as arguments, they would stand in the database. Whatever fails here is logged and fails nothing else.
    """

    def notify(self, context: Context) -> None:
        """Tell everybody who wants to know."""
        settings = Settings.from_env()
        message = what_happened(context, settings)
        self.log.error(message["text"])
        if settings.notify_webhook is not None:
            self._post(settings.notify_webhook.get_secret_value(), message)
        for path, arguments in settings.notifiers.items():
            try:
                import_string(path)(**arguments)({**context, "shelfkin": message})
            except Exception as error:  # noqa: BLE001 - the others are told all the same
                self.log.error("The notifier %s of SHELFKIN_NOTIFIERS failed: %s", path, type(error).__name__)

    def _post(self, url: str, message: Mapping[str, Any]) -> None:
        mask_secret(url)
        body = json.dumps(message).encode()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - http(s) only
        try:
            # Not httpx or requests: they log the address of what they send.
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
                self.log.info("The webhook answered %s", answer.status)
        except urllib.error.HTTPError as error:
            self.log.error("The webhook of SHELFKIN_NOTIFY_WEBHOOK answered %s", error.code)
        except Exception as error:  # noqa: BLE001 - its words may hold the address
            self.log.error("The webhook of SHELFKIN_NOTIFY_WEBHOOK could not be reached: %s", type(error).__name__)


def what_happened(context: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Return the message: what a program wants by name, and all of it as `text` for a chat."""
    is_late = "deadline" in context
    run = _late_run(context["dag_run"]) if is_late else context["dag_run"]
    task = None if is_late else str(context["task_instance"].task_id)
    store, title, as_of, account = _account(run, task, settings)
    account = account or _unexplained(context.get("exception"))
    kind, reason, next_step = (_shown(account[name]) for name in ("kind", "message", "next_step"))
    event = _EVENTS.get(kind, "failed")
    headlines = {"late": f"{title} is late", "refused": f"{title} was not published"}
    headline = headlines.get(event, f"{title}: {task} failed") + (f" (as of {as_of})" if as_of else "")
    base_url = conf.get("api", "base_url", fallback="").rstrip("/")
    link = f"{base_url}/dags/{quote(run.dag_id)}/runs/{quote(run.run_id)}"
    return {
        "event": event,
        "shop": store,
        "title": title,
        "as_of": as_of.isoformat() if as_of else None,
        "dag_id": run.dag_id,
        "run_id": run.run_id,
        "task": task,
        "kind": kind,
        "reason": reason,
        "next_step": next_step,
        "link": link,
        "text": f"{headline}. {reason}\nNext step: {next_step}\n{link}",
    }


def _account(run: Any, task: str | None, settings: Settings) -> tuple[str, str, date | None, Mapping[str, Any] | None]:
    """Return the store, its title, the run's day, and what its task or its lateness says; no task: it is late."""
    # Not at the top: DAGs are parsed without the libraries of pages.
    from shelfkin_airflow.ui.shop import day_of_run, shops

    shop = shops(settings).get(run.dag_id)
    if shop is None:  # somebody broke its profile since the run began
        return run.dag_id, run.dag_id, None, None
    interval_end = run.data_interval_end.date() if run.data_interval_end else None
    as_of = day_of_run(run.conf or {}, shop.profile, interval_end, run.run_after.date())
    account = shop.error(shop.run(as_of, run.run_id), task) if task else _late(shop.profile)
    return shop.store, _shown(shop.profile.title), as_of, account


def _late(profile: StoreProfile) -> dict[str, str]:
    return {
        "kind": "late",
        "message": f"Nothing was published by {profile.publish_by} ({profile.timezone}).",
        "next_step": "Look which of the run's tasks runs, waits or failed.",
    }


def _unexplained(error: object) -> dict[str, str]:
    return {
        "kind": "unexpected",
        "message": str(error or "The task ended without a word."),
        "next_step": "Read the end of the task's log.",
    }


def _shown(text: object) -> str:
    return without_controls(str(text), keep="\n")[:_LONGEST]


def _late_run(run: Mapping[str, Any]) -> SimpleNamespace:
    """Return the run of a missed deadline, which comes as JSON, with the names and types of a task's."""
    times = {name: datetime.fromisoformat(run[name]) for name in ("data_interval_end", "run_after") if run[name]}
    return SimpleNamespace(**{**run, **times, "run_id": run["dag_run_id"]})
