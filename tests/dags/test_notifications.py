"""Failures, refusals and lateness arrive at a real server, and its URL nowhere else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import BaseNotifier, Context
from airflow.sdk.exceptions import AirflowFailException

from finished_run import stamped_rows, write_run
from inbox import Inbox, open_inbox
from shelfkin.artifacts import Root, RunPaths, failure_account
from shelfkin.errors import EmbeddingError, ProfileError
from shelfkin.settings import Settings
from shelfkin_airflow import notifications
from shelfkin_airflow.deadline import PublishBy, overdue
from shelfkin_airflow.notifications import RunNotifier
from shelfkin_airflow.operators import PublishOperator

pytestmark = pytest.mark.airflow

RUN_ID = "scheduled__2024-06-01T01:00:00+00:00"
DAG_ID = "product_recommendations__shop"
INTERVAL_END = datetime(2024, 6, 2, 1, tzinfo=UTC)


@pytest.fixture
def inbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Inbox]]:
    with open_inbox() as (ours, url):
        monkeypatch.setenv("SHELFKIN_NOTIFY_WEBHOOK", url)
        yield ours


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunPaths:
    """A shop that is due at 06:00 in Berlin, and a run of it as of 2024-06-02."""
    (tmp_path / "stores").mkdir()
    (tmp_path / "stores" / "shop.yaml").write_text(
        "store: shop\ntitle: Hats & Co\ntimezone: Europe/Berlin\nschedule: '0 3 * * *'\nstart_date: 2024-01-01\n"
        "publish_by: '06:00'\n"
        "catalog: {kind: snapshot, source: {path: p.csv}, fields: {product_id: id, title: title}}\n"
    )
    monkeypatch.setenv("ARTIFACT_ROOT", str(tmp_path / "artifacts"))
    monkeypatch.setenv("SHELFKIN_STORES_DIR", str(tmp_path / "stores"))
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example/af")
    return RunPaths(Root.at(str(tmp_path / "artifacts")), "shop", date(2024, 6, 2), RUN_ID)


def failed(task_id: str, error: Exception | None = None) -> Any:
    run = SimpleNamespace(dag_id=DAG_ID, run_id=RUN_ID, conf={}, data_interval_end=INTERVAL_END, run_after=INTERVAL_END)
    return {"dag_run": run, "task_instance": SimpleNamespace(task_id=task_id), "exception": error}


def test_a_failed_stage_is_told_with_its_own_words(inbox: type[Inbox], paths: RunPaths) -> None:
    error = EmbeddingError("The key was refused\x1b[31m.", next_step="Set OPENAI_API_KEY.")
    paths.root.put_json(paths.error_uri("embed_products"), failure_account("embed_products", error))
    RunNotifier()(failed("embed_products", AirflowFailException("embed_products failed")))
    (message,) = inbox.got
    text = message.pop("text")
    link = f"https://airflow.example/af/dags/{DAG_ID}/runs/scheduled__2024-06-01T01%3A00%3A00%2B00%3A00"
    assert message == {
        "event": "failed",
        "shop": "shop",
        "title": "Hats & Co",
        "as_of": "2024-06-02",
        "dag_id": DAG_ID,
        "run_id": RUN_ID,
        "task": "embed_products",
        "kind": "embedding",
        "reason": "The key was refused [31m.",
        "next_step": "Set OPENAI_API_KEY.",
        "link": link,
    }
    assert text == (
        "Hats & Co: embed_products failed (as of 2024-06-02). The key was refused [31m.\n"
        f"Next step: Set OPENAI_API_KEY.\n{link}"
    )


def test_a_task_that_left_no_account_is_told_with_airflows_words(inbox: type[Inbox], paths: RunPaths) -> None:
    RunNotifier()(failed("select_k", AirflowFailException("Spark needs Java 17")))
    RunNotifier()(failed("select_k"))
    assert [one["reason"] for one in inbox.got] == ["Spark needs Java 17", "The task ended without a word."]


def test_a_shop_whose_profile_was_broken_meanwhile_is_told_too(
    inbox: type[Inbox], paths: RunPaths, tmp_path: Path
) -> None:
    (tmp_path / "stores" / "shop.yaml").write_text("store: [")
    RunNotifier()(failed("select_k", AirflowFailException("select_k failed (profile): not valid YAML")))
    (message,) = inbox.got
    assert (message["shop"], message["as_of"], message["event"]) == (DAG_ID, None, "failed")
    assert message["text"].startswith(f"{DAG_ID}: select_k failed. select_k failed (profile): not valid YAML\n")


def test_a_run_that_the_gate_refuses_is_told_as_such(inbox: type[Inbox], paths: RunPaths, tmp_path: Path) -> None:
    notes: dict[str, str] = {}
    refused = {"gate": "refuse", "gate_reason": "popularity is better", "task": "all"}
    written, uris = write_run(tmp_path / "artifacts", stamped_rows(1), run_id=RUN_ID, metrics=refused)
    assert written.as_of == date(2024, 6, 1)
    publish = PublishOperator(
        task_id="publish_recommendations",
        artifact_root=str(tmp_path / "artifacts"),
        of_run=written.identity(),
        publish="True",
        input_manifests=uris,
    )
    with pytest.raises(AirflowFailException) as caught:
        publish.execute({"ti": SimpleNamespace(xcom_push=lambda key, value: notes.update({key: value}))})  # type: ignore[typeddict-item]
    assert notes["note"].startswith("Nothing was published: popularity is better.\nLook at the run's")
    context = failed("publish_recommendations", caught.value)
    context["dag_run"].conf = {"as_of": "2024-06-01"}
    RunNotifier()(context)
    (message,) = inbox.got
    assert (message["event"], message["task"]) == ("refused", "publish_recommendations")
    assert message["reason"] == "Nothing was published: popularity is better."
    assert "override_gate" in message["next_step"]


def test_a_late_run_is_told(inbox: type[Inbox], paths: RunPaths) -> None:
    """Airflow gives the run of a missed deadline as JSON."""
    run = {
        "dag_id": DAG_ID,
        "dag_run_id": RUN_ID,
        "conf": None,
        "data_interval_end": "2024-06-02T01:00:00Z",
        "run_after": "2024-06-02T01:00:00Z",
    }
    late: Any = {"dag_run": run, "deadline": {"id": "1", "deadline_time": "2024-06-02T04:00:00Z"}}
    RunNotifier(context=late)(late)
    (message,) = inbox.got
    assert (message["event"], message["task"], message["as_of"]) == ("late", None, "2024-06-02")
    assert message["reason"] == "Nothing was published by 06:00 (Europe/Berlin)."


@pytest.mark.parametrize(("status", "said"), [(500, "answered 500"), (None, "could not be reached: TimeoutError")])
def test_a_dead_webhook_fails_nothing_and_its_url_is_not_logged(
    inbox: type[Inbox],
    paths: RunPaths,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    status: int | None,
    said: str,
) -> None:
    monkeypatch.setattr(notifications, "TIMEOUT_S", 0.3)
    inbox.status = status
    RunNotifier()(failed("select_k"))
    log = capsys.readouterr().out
    assert said in log and "select_k failed (as of 2024-06-02)" in log
    assert "5ECRET" not in log and "c0ffee" not in log


def test_nobody_listens(paths: RunPaths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SHELFKIN_NOTIFY_WEBHOOK", "http://127.0.0.1:1/5ECRET")
    RunNotifier()(failed("select_k"))
    log = capsys.readouterr().out
    assert "could not be reached" in log and "5ECRET" not in log


class Chat(BaseNotifier):
    """A notifier such as a provider brings."""

    template_fields = ("text",)
    told: list[str] = []  # noqa: RUF012

    def __init__(self, text: str, context: Context | None = None) -> None:
        super().__init__(context=context)
        self.text = text

    def notify(self, context: Context) -> None:
        if "broken" in self.text:
            raise RuntimeError("c0ffee")
        self.told.append(self.text)


def test_airflows_own_notifiers_get_the_words(
    paths: RunPaths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(notifications, "import_string", {"x.Chat": Chat, "x.Broken": Chat}.__getitem__)
    text = "{{ shelfkin.shop }} on {{ shelfkin.as_of }}: {{ shelfkin.reason }}"
    monkeypatch.setenv("SHELFKIN_NOTIFIERS", json.dumps({"x.Broken": {"text": "broken"}, "x.Chat": {"text": text}}))
    RunNotifier()(failed("select_k", AirflowFailException("no vectors")))
    assert Chat.told == ["shop on 2024-06-02: no vectors"]
    assert "The notifier x.Broken of SHELFKIN_NOTIFIERS failed: RuntimeError" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SHELFKIN_NOTIFY_WEBHOOK", "file:///c0ffee"),
        ("SHELFKIN_NOTIFY_WEBHOOK", "https://c0ffee\nHost: x"),
        ("SHELFKIN_NOTIFIERS", "[1]"),
        ("SHELFKIN_NOTIFIERS", '{"x.Chat": 1}'),
    ],
)
def test_settings_that_are_wrong_are_refused_without_being_quoted(name: str, value: str) -> None:
    with pytest.raises(ProfileError, match=name) as caught:
        Settings.from_env({name: value})
    assert "c0ffee" not in str(caught.value)


@pytest.mark.parametrize(
    ("moment", "due"),
    [
        ("2024-06-02T01:00", "2024-06-02T04:00"),
        ("2024-06-02T04:00", "2024-06-03T04:00"),  # on the dot it is the next day's turn
        ("2024-03-31T00:00", "2024-03-31T04:00"),  # clocks go forward at 01:00 UTC
        ("2024-10-27T00:00", "2024-10-27T05:00"),  # and back
        ("2024-06-01T23:30", "2024-06-02T04:00"),  # in Berlin it is the 2nd already
    ],
)
def test_a_deadline_is_on_the_shops_clock(moment: str, due: str) -> None:
    reference = PublishBy("06:00", "Europe/Berlin")
    again = PublishBy.deserialize_reference(reference.serialize_reference())
    assert again.after(datetime.fromisoformat(f"{moment}:00+00:00")) == datetime.fromisoformat(f"{due}:00+00:00")


@pytest.mark.parametrize(
    ("publish_by", "newest", "now", "late"),
    [
        ("06:00", "2024-06-01", "2024-06-02T03:59", None),
        ("06:00", "2024-06-01", "2024-06-02T04:01", "2024-06-02"),
        ("06:00", "2024-06-02", "2024-06-02T04:01", None),
        ("06:00", None, "2024-06-02T04:01", "2024-06-02"),
        ("06:00", None, "2024-01-01T04:01", None),  # no run has been due yet
        (None, "2024-06-01", "2024-06-03T00:59", None),
        (None, "2024-06-01", "2024-06-03T01:01", "2024-06-02"),
    ],
)
def test_a_day_is_late_from_its_deadline_on(
    paths: RunPaths, publish_by: str | None, newest: str | None, now: str, late: str | None
) -> None:
    profile = Settings.from_env().profile("shop").model_copy(update={"publish_by": publish_by})
    found = overdue(profile, date.fromisoformat(newest) if newest else None, datetime.fromisoformat(f"{now}:00+00:00"))
    assert found == (date.fromisoformat(late) if late else None)


def test_the_overview_marks_a_late_shop(paths: RunPaths, tmp_path: Path) -> None:
    from shelfkin.serving.publish import publish_run
    from shelfkin_airflow.ui.history import shop_history
    from shelfkin_airflow.ui.shop import shops

    shop = shops()[DAG_ID]
    late, nothing = shop_history(shop).to_do
    assert late.startswith("Late: ") and late.endswith(" should have been published by 06:00 (Europe/Berlin).")
    assert nothing.startswith("Nothing is published yet")
    written, uris = write_run(tmp_path / "artifacts", stamped_rows(1), run_id=RUN_ID)
    publish_run(written, uris, publish=True)
    assert shop_history(shop).to_do == [late]
