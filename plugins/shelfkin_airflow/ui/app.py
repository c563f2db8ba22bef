"""The pages' routes. Each is behind Airflow's own login and the permission to read the DAG that it is about."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.routes.public.backfills import create_backfill
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import BaseModel, Field
from sqlalchemy import select

from shelfkin.artifacts import RunPaths
from shelfkin.errors import ShelfkinError
from shelfkin.serving.index import MAX_RECENT, ServingIndex
from shelfkin.serving.rollback import Decision, pause, paused, resume, roll_back
from shelfkin.serving.session import recommend_for_session
from shelfkin.serving.show import printable
from shelfkin.settings import Settings
from shelfkin_airflow.ui import explore
from shelfkin_airflow.ui.backfills import ask_for_forecast, backfill_page, backfill_request
from shelfkin_airflow.ui.forgetting import ask_to_forget, n_forgotten
from shelfkin_airflow.ui.history import shop_history
from shelfkin_airflow.ui.report import stage_report, written
from shelfkin_airflow.ui.result import JUDGED, run_result
from shelfkin_airflow.ui.shop import TASKS, Shop, day_of_run, shops

URL_PREFIX = "/shelfkin"
N_FOUND = 20
N_SESSION = 12
_HERE = Path(__file__).parent

# Nothing from elsewhere, no inline script or style, and no frame but Airflow's own.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "private, no-store",
}

app = FastAPI(title="shelfkin", docs_url=None, redoc_url=None, openapi_url=None)
app.mount("/static", StaticFiles(directory=_HERE / "static"), name="static")

_templates = Environment(
    loader=FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
_templates.filters |= {"shown": printable, "written": written, "part": lambda text: quote(str(text), safe="")}
_templates.globals |= {"judged": JUDGED}


class Missing(HTTPException):
    """What was asked for isn't there; the page says so in words."""

    def __init__(self, words: str, title: str = "Not found") -> None:
        super().__init__(404, words)
        self.title = title


@app.middleware("http")
async def _headers(request: Request, call_next: Callable[[Request], Any]) -> Response:
    response: Response = await call_next(request)
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


@app.exception_handler(HTTPException)
def _http_error(request: Request, error: HTTPException) -> Response:
    titles = {401: "Please log in", 403: "Not allowed", 404: "Not found"}
    title = getattr(error, "title", titles.get(error.status_code, "Error"))
    return _error_page(request, error.status_code, title, str(error.detail))


@app.exception_handler(ShelfkinError)
def _shelfkin_error(request: Request, error: ShelfkinError) -> Response:
    words = error.message + (f" {error.next_step}" if error.next_step else "")
    return _error_page(request, 409, "This can't be shown", words)


def _error_page(request: Request, status: int, title: str, words: str) -> Response:
    if "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"detail": words}, status)
    return _page(request, "error.html", status=status, title=title, words=words)


def _page(request: Request, template: str, status: int = 200, **shown: Any) -> HTMLResponse:
    base = f"{request.scope.get('root_path', '')}"
    return HTMLResponse(_templates.get_template(template).render(base=base, **shown), status)


def _shop(dag_id: str) -> Shop:
    shop = shops().get(dag_id)
    if shop is None:
        raise Missing(f"{dag_id} is no DAG of a shop, so there is nothing to show here.")
    return shop


def _run(dag_id: str, run_id: str, session: SessionDep) -> tuple[Shop, RunPaths]:
    shop = _shop(dag_id)
    run = session.scalar(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
    if run is None:
        raise Missing(f"{dag_id} has no run {run_id}.")
    end = run.data_interval_end.date() if run.data_interval_end else None
    as_of = day_of_run(run.conf or {}, shop.profile, end, run.run_after.date())
    return shop, shop.run(as_of, run_id)


def _index(shop: Annotated[Shop, Depends(_shop)], as_of: date | None = None) -> tuple[Shop, date | None, ServingIndex]:
    pointer = shop.pointer(as_of)
    if pointer is None:
        day = f" as of {as_of}" if as_of else " yet"
        raise Missing(
            f"{shop.profile.title} has published nothing{day}. Trigger its DAG, and look again when it has ended.",
            title="Nothing to show yet",
        )
    return shop, as_of, shop.index(pointer)


ShopDep = Annotated[Shop, Depends(_shop)]
RunDep = Annotated[tuple[Shop, RunPaths], Depends(_run)]
IndexDep = Annotated[tuple[Shop, date | None, ServingIndex], Depends(_index)]


def _from_these_pages(request: Request) -> None:
    """Refuse a request that another site's page could make a browser send: those can't set a header of their own."""
    if request.headers.get("x-shelfkin") != "page":
        raise HTTPException(403, "This address changes something and is meant for the buttons of these pages.")


# Before what a route itself asks for: nobody learns which shops and runs there are.
READ = [Depends(requires_access_dag("GET"))]


WRITE = [Depends(requires_access_dag("PUT")), Depends(_from_these_pages)]


@app.get("/shops")
def all_shops(request: Request, user: GetUserDep) -> Response:
    """Show every shop whose DAG the user may read."""
    allowed = get_auth_manager().get_authorized_dag_ids(user=user)
    found = [shop for dag_id, shop in shops().items() if dag_id in allowed]
    return _page(request, "shops.html", shops=[(shop, shop_history(shop, 14)) for shop in found])


@app.get("/dags/{dag_id}", dependencies=READ)
def shop_page(request: Request, shop: ShopDep, user: GetUserDep) -> Response:
    """Show a shop over its published days, and to whom may change it what readers get."""
    return _page(
        request,
        "shop.html",
        shop=shop,
        history=shop_history(shop),
        served=shop.pointer(),
        paused=paused(shop.root, shop.store),
        n_forgotten=n_forgotten(shop),
        may_write=_may_write(shop, user),
    )


def _may_write(shop: Shop, user: GetUserDep) -> bool:
    return get_auth_manager().is_authorized_dag(method="PUT", details=DagDetails(id=shop.dag_id), user=user)


class Why(BaseModel):
    """What a button sends: the reason, and the day to go back to."""

    why: str
    as_of: date | None = None


@app.post("/dags/{dag_id}/rollback", dependencies=WRITE)
def go_back(shop: ShopDep, user: GetUserDep, asked: Why) -> dict[str, str]:
    """Let readers have an earlier published day again, and pause publishing."""
    if asked.as_of is None:
        raise HTTPException(422, "Which day?")
    decision = Decision(str(user.get_name()), asked.why)
    roll_back(shop.root, shop.store, asked.as_of, decision, Settings.from_env().publish_postgres)
    return {"said": f"Readers get the run as of {asked.as_of}. Publishing is paused."}


@app.post("/dags/{dag_id}/pause", dependencies=WRITE)
def stop(shop: ShopDep, user: GetUserDep, asked: Why) -> dict[str, str]:
    """Keep what readers get as it is."""
    pause(shop.root, shop.store, Decision(str(user.get_name()), asked.why))
    return {"said": "Readers keep what they have."}


@app.post("/dags/{dag_id}/resume", dependencies=WRITE)
def go_on(shop: ShopDep) -> dict[str, str]:
    """Let the next published run become the latest again."""
    resume(shop.root, shop.store)
    return {"said": "The next published run becomes what readers get."}


class Whom(BaseModel):
    """Whom a button is to forget, and why. In the body, so that no address and no access log holds the id."""

    customer: Annotated[str, Field(max_length=300)]
    why: str


@app.post("/dags/{dag_id}/forget", dependencies=WRITE)
def forget(shop: ShopDep, user: GetUserDep, asked: Whom) -> dict[str, str]:
    """Forget a customer: runs leave them out from now on, and the DAG retention erases what there is."""
    ask_to_forget(shop, asked.customer, asked.why, str(user.get_name()))
    return {"said": "Runs leave this customer out from now on; the DAG retention erases what there is."}


@app.get("/dags/{dag_id}/backfill", dependencies=READ)
def backfill(request: Request, shop: ShopDep, user: GetUserDep, session: SessionDep) -> Response:
    """Show what a backfill would do, and to whom may change it the buttons that ask for one."""
    dag = session.get(DagModel, shop.dag_id)
    return _page(
        request,
        "backfill.html",
        shop=shop,
        page=backfill_page(shop, session),
        paused=bool(dag and dag.is_paused),
        may_write=_may_write(shop, user),
    )


class Days(BaseModel):
    """What the buttons of the page Backfill send."""

    first: date
    last: date


# As Airflow asks of who creates a backfill.
START_RUNS = [*WRITE, Depends(requires_access_dag("POST", DagAccessEntity.RUN))]


@app.post("/dags/{dag_id}/forecast", dependencies=START_RUNS)
def ask_forecast(shop: ShopDep, user: GetUserDep, asked: Days) -> dict[str, str]:
    """Start the forecast of a backfill."""
    ask_for_forecast(shop, asked.first, asked.last, str(user.get_name()))
    return {"said": "The forecast is being made."}


@app.post("/dags/{dag_id}/backfill", dependencies=START_RUNS)
def start_backfill(shop: ShopDep, user: GetUserDep, session: SessionDep, asked: Days) -> dict[str, str]:
    """Start a backfill, by Airflow's own route."""
    create_backfill(backfill_request(shop, asked.first, asked.last), user, session)
    return {"said": "The backfill has begun."}


@app.get("/dags/{dag_id}/runs/{run_id}", dependencies=READ)
def run_page(request: Request, of_run: RunDep) -> Response:
    """Show a run."""
    shop, paths = of_run
    return _page(request, "result.html", shop=shop, result=run_result(shop, paths))


@app.get("/dags/{dag_id}/runs/{run_id}/tasks/{task_id}", dependencies=READ)
def task_page(request: Request, of_run: RunDep, task_id: str) -> Response:
    """Show what one task of a run did."""
    shop, paths = of_run
    return _page(request, "report.html", shop=shop, paths=paths, report=stage_report(shop, paths, _task(task_id)))


@app.get("/dags/{dag_id}/runs/{run_id}/tasks/{task_id}/plots/{plot}.png", dependencies=READ)
def picture(of_run: RunDep, task_id: str, plot: str) -> Response:
    """Return a picture that the task's manifest names."""
    shop, paths = of_run
    manifest = shop.manifests(paths).get(_task(task_id))
    path = manifest.content["plots"].get(plot) if manifest else None
    if path is None:
        raise Missing(f"{task_id} has no picture {plot}.")
    return Response(shop.root.read_bytes(shop.root.join(path)), media_type="image/png")


@app.get("/dags/{dag_id}/clusters", dependencies=READ)
def clusters_page(request: Request, opened: IndexDep) -> Response:
    """Show the map of the catalogue and its clusters."""
    shop, as_of, index = opened
    return _page(request, "clusters.html", shop=shop, as_of=as_of, run=index.run(), clusters=index.clusters())


@app.get("/dags/{dag_id}/map.bin", dependencies=READ)
def map_points(opened: IndexDep) -> Response:
    """Return the points of the map, as `serving.index.MAP_POINT`."""
    return Response(opened[2].map_points(), media_type="application/octet-stream")


@app.get("/dags/{dag_id}/titles", dependencies=READ)
def titles(opened: IndexDep, number: Annotated[list[int], Query(max_length=50)]) -> list[dict[str, Any]]:
    """Return ids and titles of products by number, for the map."""
    found = sorted(opened[2].numbered(number))
    return [{"number": one.number, "id": one.product_id, "title": printable(one.title, 120)} for one in found]


@app.get("/dags/{dag_id}/clusters/{cluster_id}", dependencies=READ)
def cluster_page(request: Request, opened: IndexDep, cluster_id: int) -> Response:
    """Show one cluster."""
    shop, as_of, index = opened
    page = explore.cluster_page(index, cluster_id)
    if page is None:
        raise Missing(f"This run has no cluster {cluster_id}.")
    return _page(request, "cluster.html", shop=shop, as_of=as_of, run=index.run(), page=page)


@app.get("/dags/{dag_id}/search", dependencies=READ)
def search(opened: IndexDep, q: Annotated[str, Query(max_length=200)] = "") -> list[dict[str, Any]]:
    """Return products whose title or id begins as typed."""
    return [
        {"id": one.product_id, "title": printable(one.title, 120) or one.product_id, "brand": printable(one.brand, 40)}
        for one in opened[2].search(q, N_FOUND)
    ]


@app.get("/dags/{dag_id}/product", dependencies=READ)
def product_page(request: Request, opened: IndexDep, id: Annotated[str, Query(max_length=300)] = "") -> Response:
    """Show a product and its neighbours; without an id, the most popular one that has some."""
    shop, as_of, index = opened
    example = None if id else index.example_product()
    page = explore.product_page(index, id or (example.product_id if example else ""))
    return _page(request, "product.html", shop=shop, as_of=as_of, run=index.run(), page=page, asked=id)


@app.get("/dags/{dag_id}/customer", dependencies=READ)
def customer_page(request: Request, opened: IndexDep, id: Annotated[str, Query(max_length=300)] = "") -> Response:
    """Show a customer's history and list; without an id, an example."""
    shop, as_of, index = opened
    examples = index.example_users()
    page = explore.customer_page(index, id or (examples[0] if examples else ""))
    return _page(
        request, "customer.html", shop=shop, as_of=as_of, run=index.run(), page=page, asked=id, examples=examples
    )


@app.get("/dags/{dag_id}/session", dependencies=READ)
def session_page(
    request: Request,
    opened: IndexDep,
    id: Annotated[list[str], Query(max_length=MAX_RECENT)] = [],  # noqa: B006
) -> Response:
    """Show what is recommended to somebody who has just looked at these products."""
    shop, as_of, index = opened
    answer = recommend_for_session(index, id, N_SESSION)
    return _page(request, "session.html", shop=shop, as_of=as_of, run=index.run(), answer=answer)


@app.get("/dags/{dag_id}/customer.csv", dependencies=READ)
def customer_csv(opened: IndexDep, id: Annotated[str, Query(max_length=300)]) -> Response:
    """Return a customer's list as CSV."""
    page = explore.customer_page(opened[2], id)
    if page is None:
        raise Missing(f"Nothing is known of customer {id}.")
    rows = [
        (one.rank, one.product_id, one.product.title if one.product else "", one.sentence) for one in page.recommended
    ]
    return _csv("customer", ("rank", "product_id", "title", "why"), rows)


@app.get("/dags/{dag_id}/product.csv", dependencies=READ)
def product_csv(opened: IndexDep, id: Annotated[str, Query(max_length=300)]) -> Response:
    """Return a product's neighbours as CSV."""
    page = explore.product_page(opened[2], id)
    if page is None:
        raise Missing(f"The catalogue has no product {id}.")
    rows = [
        (
            rank,
            one.product.product_id,
            one.product.title,
            one.score.score,
            one.score.content_score,
            one.score.co_purchase_score,
        )
        for rank, one in enumerate(page.neighbours, start=1)
    ]
    return _csv("product", ("rank", "product_id", "title", "score", "content_score", "co_purchase_score"), rows)


@app.get("/dags/{dag_id}/clusters.csv", dependencies=READ)
def clusters_csv(opened: IndexDep) -> Response:
    """Return the clusters as CSV."""
    rows = [
        (one["cluster_id"], one["name"], one["size"], one["status"], ", ".join(one["top_terms"] or ()))
        for one in opened[2].clusters()
    ]
    return _csv("clusters", ("cluster_id", "name", "size", "status", "top_terms"), rows)


def _csv(name: str, header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> Response:
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(header)
    table.writerows([_cell(value) for value in row] for row in rows)
    named = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
    return Response(text.getvalue(), media_type="text/csv; charset=utf-8", headers=named)


def _cell(value: Any) -> Any:
    """Return a cell that no spreadsheet runs as a formula (OWASP, "CSV Injection")."""
    return f"'{value}" if isinstance(value, str) and value.lstrip()[:1] in ("=", "+", "-", "@") else value


def _task(task_id: str) -> str:
    if task_id not in TASKS:
        raise Missing(f"{task_id} is no task of a shop's DAG.")
    return task_id
