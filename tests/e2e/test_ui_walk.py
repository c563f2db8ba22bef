"""Drill: Airflow's own UI in Chromium, from the login to the buttons that say what readers get."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from browsing import Watch, started_chromium
from installation import Installation, temporary_folder
from shelfkin.serving.publish import STAGE as PUBLISH
from shelfkin.stages import STAGES
from small_shop import products, write_csv, write_shop

if TYPE_CHECKING:
    from playwright.sync_api import FrameLocator, Locator, Page

expect = pytest.importorskip("playwright.sync_api").expect

pytestmark = [pytest.mark.slow, pytest.mark.spark, pytest.mark.airflow]

DAG_ID = "product_recommendations"
DAYS = ("2024-05-01", "2024-05-08")
DEADLINE_S = 1200
N_RENAMED = 20


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    """A shop with a schedule, because Airflow backfills no other. Its run of today refuses events so old."""
    with temporary_folder() as folder:
        schedule = {"schedule": "0 3 * * *", "start_date": DAYS[0], "max_staleness_days": 60}
        yield Installation(folder, write_shop(folder, **schedule))


@pytest.fixture(scope="module")
def page(installation: Installation) -> Iterator[Page]:
    """Airflow's first page after the login that `up` printed."""
    with started_chromium() as browser:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        started = installation.airflow("up", "--port", str(port))
        assert started.returncode == 0, started.stdout + started.stderr
        try:
            context = browser.new_context(base_url=f"http://127.0.0.1:{port}", viewport={"width": 1400, "height": 900})
            context.set_default_timeout(60_000)
            page = context.new_page()
            log_in(page, started.stdout.split("password")[1].split()[0])
            watch = Watch(page, console_of="/shelfkin/")
            yield page
            assert watch.complaints == []
        finally:
            assert "Airflow is down." in installation.airflow("down").stdout


def log_in(page: Page, password: str) -> None:
    page.goto("/")
    page.locator("input[name=username]").fill("admin")
    page.locator("input[name=password]").fill(password)
    page.keyboard.press("Enter")
    nav_entry(page).wait_for()


def nav_entry(page: Page) -> Locator:
    """Return the navigation's own link; tasks and assets are called recommendations as well."""
    return page.get_by_test_id("nav-sidebar").get_by_role("link", name="Recommendations")


def trigger(page: Page, as_of: str) -> str:
    """Trigger a run through the form, wait for its success, and return its id."""
    before = run_states(page)
    page.goto(f"/dags/{DAG_ID}")
    page.get_by_test_id("trigger-dag-button").click()
    form = page.get_by_role("dialog")
    form.locator("input[name=element_as_of]").fill(as_of)
    form.get_by_role("button", name="Clusters and texts").click()
    form.locator("input[name=element_k]").fill("6")
    form.get_by_role("button", name="Trigger", exact=True).click()
    form.wait_for(state="detached")
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        new = {run_id: state for run_id, state in run_states(page).items() if run_id not in before}
        assert "failed" not in new.values()
        if new and set(new.values()) == {"success"}:
            return next(iter(new))
        time.sleep(3)
    raise TimeoutError(f"the run as of {as_of} did not end within {DEADLINE_S} s")


def run_states(page: Page) -> dict[str, str]:
    """Return the states of the runs that were triggered."""
    answer = page.request.get(f"/api/v2/dags/{DAG_ID}/dagRuns?run_type=manual")
    assert answer.ok, answer.text()
    return {run["dag_run_id"]: run["state"] for run in answer.json()["dag_runs"]}


def open_tab(page: Page, address: str, tab: str) -> FrameLocator:
    """Open a page of Airflow's and one of its tabs; returns what Airflow shows there in a frame."""
    page.goto(address)
    page.get_by_role("link", name=tab, exact=True).click()
    return page.frame_locator("iframe")


def test_a_first_evening(page: Page, installation: Installation) -> None:
    runs = [trigger(page, day) for day in DAYS]
    look_at_the_overview(page)
    look_at_runs_and_tasks(page, runs[-1])
    explore(page)
    correct_the_catalogue(installation)
    backfill_the_last_day(page)
    go_back_and_resume(page)
    look_in_the_dark(page)


def look_at_the_overview(page: Page) -> None:
    nav_entry(page).click()
    overview = page.frame_locator("iframe")
    expect(overview.get_by_role("heading", name="Recommendations")).to_be_visible()
    expect(overview.locator("main")).to_contain_text(f"Newest published day {DAYS[-1]}")


def look_at_runs_and_tasks(page: Page, run_id: str) -> None:
    result = open_tab(page, f"/dags/{DAG_ID}/runs/{run_id}", "Result")
    expect(result.get_by_role("heading", name=f"Result as of {DAYS[-1]}")).to_be_visible()
    expect(result.locator("main")).to_contain_text("Published: this is what readers get.")
    for task in (*STAGES, PUBLISH):
        report = open_tab(page, f"/dags/{DAG_ID}/runs/{run_id}/tasks/{task}", "Report")
        expect(report.get_by_role("heading", name=task)).to_be_visible()
        expect(report.locator("main")).to_contain_text("Manifest:")


def explore(page: Page) -> None:
    shop = open_tab(page, f"/dags/{DAG_ID}", "Shop")
    shop.get_by_role("navigation").get_by_role("link", name="Clusters").click()
    expect(shop.get_by_role("heading", name="clusters as of")).to_be_visible()
    expect(shop.locator("#map canvas")).to_be_visible()
    shop.locator("#clusters a").first.click()
    expect(shop.get_by_role("heading", name="Stand for it")).to_be_visible()

    shop.get_by_role("navigation").get_by_role("link", name="Products").click()
    shop.get_by_label("Find a product").press_sequentially("cheddar")
    expect(shop.locator(".found a").first).to_contain_text(re.compile("cheddar", re.IGNORECASE))
    shop.get_by_label("Find a product").press("Enter")
    expect(shop.locator("h1")).to_contain_text(re.compile("cheddar", re.IGNORECASE))
    expect(shop.get_by_role("heading", name="Similar products")).to_be_visible()

    shop.get_by_role("navigation").get_by_role("link", name="Customers").click()
    shop.locator("form.search a").first.click()
    expect(shop.get_by_role("heading", name="Recommended")).to_be_visible()
    expect(shop.locator("table")).to_contain_text("bought")

    shop.get_by_role("navigation").get_by_role("link", name="Session").click()
    expect(shop.get_by_role("heading", name="Popular in the shop")).to_be_visible()
    shop.get_by_label("Add a product").press_sequentially("cheddar")
    shop.get_by_label("Add a product").press("Enter")
    expect(shop.get_by_role("heading", name="Recommended")).to_be_visible()
    before = shop.locator("tbody").inner_text()
    shop.get_by_text("look at it").first.click()
    expect(shop.get_by_text("take away")).to_have_count(2)
    assert shop.locator("tbody").inner_text() != before


def correct_the_catalogue(installation: Installation) -> None:
    rows = products()
    renamed = [{**row, "name": f"Finest {row['name']}"} for row in rows[:N_RENAMED]]
    write_csv(installation.stores / "data" / "products.csv", renamed + rows[N_RENAMED:])


def backfill_the_last_day(page: Page) -> None:
    """Ask what a backfill would do, let it be done, and see that it did just that."""
    n_texts = len({row["name"] for row in products()[:N_RENAMED]})
    shop = open_tab(page, f"/dags/{DAG_ID}", "Shop")
    shop.get_by_role("navigation").get_by_role("link", name="Backfill").click()
    for label in ("From", "to"):
        shop.get_by_label(label, exact=True).fill(DAYS[-1])
    shop.get_by_role("button", name="Forecast").click()
    told = f"1 of 1 days would change, {n_texts} texts would be embedded"
    expect(shop.locator("main")).to_contain_text(told, timeout=1000 * DEADLINE_S)

    shop.get_by_role("button", name="Backfill these days").click()
    expect(shop.locator("main")).to_contain_text("A backfill is under way, by admin")
    expect(shop.locator("main")).to_contain_text("1 of these days has been run since", timeout=1000 * DEADLINE_S)
    day = shop.locator("table.by-day tbody tr").filter(has_text=DAYS[-1])
    expect(day.locator("td").nth(7)).to_have_text(str(n_texts))
    expect(day.locator("td").nth(8)).to_have_text(str(n_texts))


def go_back_and_resume(page: Page) -> None:
    shop = open_tab(page, f"/dags/{DAG_ID}", "Shop")
    shop.get_by_text("Change it").click()
    shop.get_by_label("Go back to").select_option(DAYS[0])
    shop.locator("form[data-post$=rollback] input[name=why]").fill("the drill")
    shop.get_by_role("button", name="Go back").click()
    expect(shop.locator("main")).to_contain_text(f"The run as of {DAYS[0]}; admin went back to it")
    expect(shop.locator("main")).to_contain_text("Publishing has been paused")
    shop.get_by_text("Change it").click()
    shop.get_by_role("button", name="Publish again").click()
    expect(shop.get_by_text("Publishing has been paused")).to_have_count(0)


def look_in_the_dark(page: Page) -> None:
    page.emulate_media(color_scheme="dark")
    shop = open_tab(page, f"/dags/{DAG_ID}", "Shop")
    expect(shop.locator("html")).to_have_attribute("data-theme", "dark")
    page.emulate_media(color_scheme="light")
