"""Every page for everybody who may ask for it: who is let in, what stands there, and what a shop's texts can't do."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from datetime import date
from html.parser import HTMLParser
from urllib.parse import quote

import numpy as np
import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from sqlalchemy import select, text

from shelfkin.errors import ArtifactError
from shelfkin.profile import StoreProfile
from shelfkin.serving.index import MAP_POINT
from shelfkin_airflow import run_note
from shelfkin_airflow.ui.app import app
from shelfkin_airflow.ui.shop import day_of_run

pytestmark = pytest.mark.airflow

Client = Callable[[str | None], TestClient]
DAG = "/shelfkin/dags/product_recommendations__shop"
RUN = f"{DAG}/runs/manual__2024-06-02T08:00:00+00:00"
ALL = [route for route in app.routes if isinstance(route, APIRoute)]
ROUTES = sorted(route.path for route in ALL if "GET" in route.methods)
CHANGES = sorted(route.path for route in ALL if "GET" not in route.methods)
FILLED = {
    "dag_id": "product_recommendations__shop",
    "run_id": "manual__2024-06-02T08:00:00+00:00",
    "task_id": "evaluate_recommenders",
    "plot": "none",
    "cluster_id": "1",
}
# What a page needs to be asked for.
QUESTIONS = {"customer.csv": "?id=u0", "product.csv": "?id=p000000", "titles": "?number=1"}
PAGES = [DAG, RUN, f"{RUN}/tasks/evaluate_recommenders", f"{RUN}/tasks/clean_catalog", "/shelfkin/shops"]
PAGES += [f"{DAG}/{page}" for page in ("clusters", "clusters/1", "customer?id=u0", "session", "product", "backfill")]
PAGES += [f"{DAG}/product?id=p{number:06d}" for number in range(7)]


class Tags(HTMLParser):
    """The tags of a page, with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))


def address(route: str) -> str:
    path = f"/shelfkin{route.format(**FILLED)}"
    return path + QUESTIONS.get(path.rsplit("/", 1)[1], "")


@pytest.mark.parametrize("route", ROUTES)
def test_nobody_reads_a_page_without_a_login_and_the_dags_permission(client: Client, route: str) -> None:
    assert client(None).get(address(route)).status_code == 401
    without = client("").get(address(route))
    if route == "/shops":
        assert without.status_code == 200 and "no shop whose DAG you may read" in without.text
        assert "Söhne" not in without.text
    else:
        assert without.status_code == 403
    # The one picture that is asked for doesn't exist; everything else does.
    assert client("VIEWER").get(address(route)).status_code == (404 if "{plot}" in route else 200)


@pytest.mark.parametrize("route", CHANGES)
def test_only_who_may_edit_the_dag_changes_what_readers_get_and_only_from_these_pages(
    client: Client, route: str
) -> None:
    body = {"why": "a test", "as_of": "2024-06-01", "first": "2024-06-01", "last": "2024-06-02", "customer": "u4"}
    page = {"x-shelfkin": "page"}
    assert client(None).post(address(route), json=body, headers=page).status_code == 401
    for role in ("", "VIEWER"):
        assert client(role).post(address(route), json=body, headers=page).status_code == 403
    # What another site's form could send.
    assert client("ADMIN").post(address(route), json=body).status_code == 403
    assert client("ADMIN").post(address(route), data=body).status_code == 403
    # This shop has no schedule: nothing of it can be backfilled. And Airflow knows no DAG retention here.
    right = 409 if route.endswith(("/backfill", "/forecast", "/forget")) else 200
    assert client("ADMIN").post(address(route), json=body, headers=page).status_code == right


def test_buttons_say_what_is_wrong_and_record_who_pressed_them(client: Client) -> None:
    admin, page = client("ADMIN"), {"x-shelfkin": "page", "accept": "application/json"}
    refused = admin.post(f"{DAG}/pause", json={"why": " "}, headers=page)
    assert refused.status_code == 409 and "A reason of 1 to 500 characters is needed" in refused.json()["detail"]
    never = admin.post(f"{DAG}/rollback", json={"why": "x", "as_of": "2023-01-01"}, headers=page)
    assert "the newest are 2024-06-01" in never.json()["detail"]
    assert admin.post(f"{DAG}/pause", json={"why": "<i>stocktaking</i>"}, headers=page).status_code == 200
    text = client("VIEWER").get(DAG).text
    assert "by someone: &lt;i&gt;stocktaking&lt;/i&gt;" in text and "data-post" not in text
    assert f"{DAG}/resume" in admin.get(DAG).text
    assert admin.post(f"{DAG}/resume", headers=page).status_code == 200
    assert "stocktaking" not in client("VIEWER").get(DAG).text


def test_who_is_forgotten_goes_into_the_list_and_nowhere_else(client: Client) -> None:
    admin, page = client("ADMIN"), {"x-shelfkin": "page", "accept": "application/json"}
    asked = admin.post(f"{DAG}/forget", json={"customer": "u4-quixotic", "why": "ticket 12"}, headers=page)
    assert asked.status_code == 409 and "make forget STORE=shop YES=1" in asked.json()["detail"]
    assert "quixotic" not in asked.text
    named = admin.post(f"{DAG}/forget", json={"customer": "u4-quixotic", "why": "for u4-quixotic"}, headers=page)
    assert "names the customer" in named.json()["detail"]
    text = client("VIEWER").get(DAG).text
    assert re.search(r"\d customers? (was|were) forgotten", text) and "Every published day and run" in text
    assert f"{DAG}/forget" not in text and f"{DAG}/forget" in admin.get(DAG).text


def test_a_dag_that_is_no_shops_and_a_run_that_is_not_there_say_so(client: Client) -> None:
    other = client("VIEWER").get("/shelfkin/dags/etl_of_somebody_else")
    assert other.status_code == 404 and "is no DAG of a shop" in other.text
    missing = client("VIEWER").get(f"{DAG}/runs/gone")
    assert missing.status_code == 404 and "has no run gone" in missing.text
    # Who may not read a DAG doesn't learn whether it exists.
    assert client("").get("/shelfkin/dags/etl_of_somebody_else").status_code == 403


@pytest.mark.parametrize(
    "path",
    [
        f"{RUN}/tasks/..%2f..%2f..",
        f"{RUN}/tasks/clean_catalog/plots/..%2f..%2fmanifest.png",
        f"{DAG}/clusters?as_of=../../latest",
        f"{DAG}/runs/..%2f..%2fpublished",
        "/shelfkin/static/..%2fapp.py",
        "/shelfkin/static/%2e%2e/app.py",
    ],
)
def test_no_name_leads_out_of_its_folder(client: Client, path: str) -> None:
    answer = client("ADMIN").get(path)
    assert answer.status_code in (404, 422)
    assert "import" not in answer.text and "manifest_sha256" not in answer.text


@pytest.mark.parametrize("path", PAGES)
def test_a_shops_texts_stay_texts(client: Client, path: str) -> None:
    answer = client("VIEWER").get(path)
    assert answer.status_code == 200
    text = answer.text
    assert "<script>alert" not in text and "<img src=x" not in text and "<b>Shop" not in text
    tags = Tags(text)
    assert [attributes for tag, attributes in tags.found if tag == "script" and "src" not in attributes] == []
    names = {name for _, attributes in tags.found for name in attributes}
    assert not [name for name in names if name == "style" or name.startswith("on")]
    links = [value for _, attributes in tags.found for name, value in attributes.items() if name in ("href", "src")]
    assert links and all(link.startswith("/shelfkin/") for link in links)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08\x0b-\x1f]", text)
    assert len(max(re.findall(r">([^<]*)<", text), key=len)) < 1200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_hostile_titles_are_seen_as_they_are(client: Client) -> None:
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in client("VIEWER").get(f"{DAG}/product?id=p000000").text
    assert "{{ 7 * 7 }}" in client("VIEWER").get(f"{DAG}/product?id=p000006").text


def test_a_customer_reads_in_words_how_often_a_product_was_bought(client: Client) -> None:
    text = client("VIEWER").get(f"{DAG}/customer?id=u0").text
    assert "bought 2 times, last on 3 May 2024" in text and ">again<" in text
    unknown = client("VIEWER").get(f"{DAG}/customer?id=%3Cb%3E")
    assert unknown.status_code == 200 and "Nothing is known of customer &lt;b&gt; as of 2024-06-01" in unknown.text


def test_a_run_shows_its_quality_and_that_it_is_served(client: Client) -> None:
    text = client("VIEWER").get(RUN).text
    assert "Published: this is what readers get." in text
    assert "The gate&#39;s word: <strong>pass</strong>" in text or "The gate's word: <strong>pass</strong>" in text
    assert "3.0000" in text  # NDCG@10 of the run's one recommender


def test_search_finds_products_as_one_types(client: Client) -> None:
    found = client("VIEWER").get(f"{DAG}/search?q=titl").json()
    assert {"id": "p000007", "title": "title 3", "brand": ""} in found
    assert client("VIEWER").get(f"{DAG}/search?q=").json() == []


def test_a_session_answers_for_products_in_its_address(client: Client) -> None:
    text = client("VIEWER").get(f"{DAG}/session?id=p000008&id=nonsense").text
    assert "nonsense is not in the catalogue" in text and "Looked at, oldest first" in text
    too_many = "&".join(f"id=p{number}" for number in range(51))
    assert client("VIEWER").get(f"{DAG}/session?{too_many}").status_code == 422


def test_csv_cells_are_no_formulas(client: Client) -> None:
    answer = client("VIEWER").get(f"{DAG}/product.csv?id=p000001")
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["product_id"] for row in rows] == [f"p00000{number}" for number in (2, 3, 4, 5, 6)]
    assert rows[0]["title"].startswith("'=HYPERLINK")
    assert {row["score"] for row in rows} == {"3.0"}


def test_the_map_is_the_indexs_points(client: Client) -> None:
    points = np.frombuffer(client("VIEWER").get(f"{DAG}/map.bin").content, MAP_POINT).tolist()
    assert points == [(number, 1, float(number - 1), (number - 1) % 3.0) for number in range(1, 8)]
    assert client("VIEWER").get(f"{DAG}/titles?number=1").json()[0]["id"] == "p000000"


def test_ids_with_signs_of_addresses_are_links_that_work(client: Client) -> None:
    page = client("VIEWER").get(f"{DAG}/product?id={quote('a/b?c=d&e#f')}")
    assert "has no product a/b?c=d&amp;e#f" in page.text


@pytest.mark.parametrize(
    ("conf", "schedule", "default", "interval_end", "day"),
    [
        ({"as_of": "2024-03-05"}, None, None, None, date(2024, 3, 5)),
        ({}, None, date(2018, 1, 1), None, date(2018, 1, 1)),
        ({"as_of": None}, None, date(2018, 1, 1), None, date(2024, 9, 9)),
        ({}, "0 5 * * *", date(2018, 1, 1), date(2024, 5, 5), date(2024, 5, 5)),
        ({}, "0 5 * * *", None, None, date(2024, 9, 9)),
    ],
    ids=["param", "default of a frozen shop", "param taken away", "interval", "neither"],
)
def test_a_runs_day_is_what_the_dags_template_says(
    conf: dict[str, str | None], schedule: str | None, default: date | None, interval_end: date | None, day: date
) -> None:
    profile = StoreProfile.model_construct(schedule=schedule, default_as_of=default)
    assert day_of_run(conf, profile, interval_end, date(2024, 9, 9)) == day
    with pytest.raises(ArtifactError, match="no date"):
        day_of_run({"as_of": "soon"}, profile, None, date(2024, 9, 9))


def test_a_cleaning_task_shows_what_became_of_each_field(client: Client) -> None:
    text = client("VIEWER").get(f"{RUN}/tasks/clean_catalog").text
    row = re.search(r"<tr><td>price</td>(.*?)</tr>", text, re.S)
    assert row is not None
    assert re.findall(r'class="number">(\d+)<', row[1]) == ["7", "0", "3"]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;; " in row[1] and "catalog.source.decimal_mark" in row[1]
    assert "Titles that several products carry" in text and "Event types" not in text


@pytest.mark.parametrize(("by", "shown"), [(None, "Published.\n7 texts"), ("ann", "mine")])
def test_what_the_publishing_task_says_becomes_the_runs_note_unless_a_person_wrote_one(
    client: Client, by: str | None, shown: str
) -> None:
    from airflow import settings
    from airflow.models.dagrun import DagRun
    from airflow.models.xcom import XComModel

    with settings.Session() as session:
        run = session.scalars(select(DagRun).where(DagRun.dag_id == FILLED["dag_id"])).one()
        session.execute(text("PRAGMA foreign_keys=OFF"))  # the XCom's task instance isn't there
        session.add(
            XComModel(
                dag_run_id=run.id,
                dag_id=run.dag_id,
                run_id=run.run_id,
                task_id="publish_recommendations",
                map_index=-1,
                key="note",
                value="Published.\n7 texts",
            )
        )
        run.note = ("mine", by)
        session.flush()
        run_note.on_dag_run_success(dag_run=run)
        assert run.note == shown
        session.rollback()
        session.execute(text("PRAGMA foreign_keys=ON"))
