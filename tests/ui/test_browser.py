"""The pages in Chromium, as somebody uses them: wide and narrow, light and dark, with the worst texts and with none."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from fastapi import FastAPI

from browsing import Watch, sideways_overflow, started_chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

expect = pytest.importorskip("playwright.sync_api").expect

pytestmark = pytest.mark.airflow

SHOPS = "/shelfkin/shops"
DAG = "/shelfkin/dags/product_recommendations__shop"
EMPTY = "/shelfkin/dags/product_recommendations__empty"
BROKEN = "/shelfkin/dags/product_recommendations__broken"
RUN = f"{DAG}/runs/manual__2024-06-02T08:00:00+00:00"
OF_SHOP = [
    "",
    "/clusters",
    "/clusters/1",
    "/product",
    "/customer?id=u0",
    "/customer?id=nobody",
    "/session",
    "/backfill",
]
PAGES = [SHOPS, RUN, f"{RUN}/tasks/evaluate_recommenders", f"{RUN}/tasks/publish_recommendations"]
PAGES += [DAG + page for page in OF_SHOP] + [f"{DAG}/product?id=p{number:06d}" for number in range(7)]
PAGES += [DAG + "/session?id=" + "&id=".join(f"p{number:06d}" for number in range(7))]
# Pages without data, and pages of data that can't be read, say so with these.
WITHOUT = {f"{EMPTY}/{page}": 404 for page in ("clusters", "product", "customer", "session")} | {EMPTY: 200}
WITHOUT |= {f"{BROKEN}/{page}": 409 for page in ("clusters", "product", "customer", "session")} | {BROKEN: 200}
WITHOUT |= {f"{BROKEN}/clusters?as_of=2024-05-0{day}": 409 for day in (1, 2)}
WITHOUT |= {f"{DAG}/clusters/77": 404, f"{DAG}/clusters?as_of=2020-01-01": 404, f"{DAG}/runs/gone": 404}
# What only markup that got into a page could have put there.
INJECTED = """() => [...document.querySelectorAll("*")].filter((one) =>
    [...one.attributes].some((named) => named.name.startsWith("on") || named.name === "style")
    || (one.tagName === "SCRIPT" && !one.src.startsWith(location.origin + "/shelfkin/static/"))
    || (one.tagName === "IMG" && !one.src.startsWith(location.origin + "/shelfkin/"))
    || (one.tagName === "B" || one.tagName === "IFRAME")).map((one) => one.outerHTML.slice(0, 200))"""
INK = """() => { const pen = document.querySelector("#map canvas");
    const pixels = pen.getContext("2d").getImageData(0, 0, pen.width, pen.height).data;
    let drawn = 0; for (let i = 3; i < pixels.length; i += 4) drawn += pixels[i] > 0; return drawn; }"""
Open = Callable[..., "Page"]


@pytest.fixture(scope="module")
def server(app: FastAPI) -> Iterator[str]:
    """The pages on a port of this machine."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        # Airflow's own start-up and shut-down work is the api-server's, which isn't under test.
        running = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="warning", ws="none"))
        thread = threading.Thread(target=running.run, args=([listening],))
        thread.start()
        while not running.started and thread.is_alive():
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        running.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with started_chromium() as browser:
        yield browser


@pytest.fixture
def open_page(chromium: Browser, server: str, token: Callable[[str], str]) -> Iterator[Open]:
    """Open a page as somebody of a role; whatever it does that no page may do fails the test at its end."""
    watches, contexts = [], []

    def open_as(path: str, role: str = "VIEWER", width: int = 1400, scheme: Any = "light", status: int = 200) -> Page:
        context = chromium.new_context(base_url=server, viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        context.add_cookies([{"name": "_token", "value": token(role), "url": server}])
        context.set_default_timeout(10_000)
        page = context.new_page()
        watches.append(Watch(page, allowed_status=status))
        visit(page, path, status)
        return page

    yield open_as
    for context in contexts:
        context.close()
    assert [words for watch in watches for words in watch.complaints] == []


def wait_until(is_so: Callable[[], bool], timeout_s: float = 10) -> None:
    """Wait for what only a look tells; a page's policy allows no script of the test's that waits inside it."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, "it did not become so"
        time.sleep(0.05)


def visit(page: Page, path: str, status: int = 200) -> None:
    answer = page.goto(path, wait_until="load")
    assert answer is not None and answer.status == status, (path, answer and answer.status)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 400])
def test_no_text_of_a_shop_breaks_a_page(open_page: Open, width: int, scheme: str) -> None:
    page = open_page(SHOPS, width=width, scheme=scheme)
    for path in PAGES:
        visit(page, path)
        assert page.evaluate(INJECTED) == [], path
        assert sideways_overflow(page) == 0, path
        shade = page.evaluate("getComputedStyle(document.body).backgroundColor")
        brightness = sum(map(int, re.findall(r"\d+", shade)[:3])) / 3
        assert (brightness > 200) == (scheme == "light"), (path, shade)
        assert page.locator("main").inner_text().strip(), path


@pytest.mark.parametrize("path", sorted(WITHOUT))
def test_pages_without_data_or_with_broken_data_say_so(open_page: Open, path: str) -> None:
    page = open_page(path, width=400, status=WITHOUT[path])
    assert sideways_overflow(page) == 0
    words = page.locator("main").inner_text()
    assert re.search("nothing|no cluster|can't be|has no run", words, re.IGNORECASE), words
    assert "Traceback" not in words


def test_one_broken_shop_hides_no_other(open_page: Open) -> None:
    words = open_page(SHOPS).locator("main").inner_text()
    assert "<b>Shop</b> & Söhne" in words and "Newest published day 2024-06-01" in words
    assert "Nothing is published yet" in words and "can't be read" in words


def test_the_map_is_drawn_says_what_is_under_the_pointer_and_opens_it(open_page: Open) -> None:
    page = open_page(f"{DAG}/clusters")
    expect(page.locator("#map-words")).to_contain_text("Scroll to zoom")
    wait_until(lambda: page.evaluate(INK) > 50)
    before = page.evaluate(INK)
    box = page.locator("#map canvas").bounding_box()
    assert box is not None
    # The map fits its points: x goes from 0 to 6, and product 2 lies at (1, 1), one unit up from the lowest.
    scale = 0.92 * min(box["width"] / 6, box["height"] / 2)
    x, y = box["x"] + box["width"] / 2 - 2 * scale, box["y"] + box["height"] / 2
    page.mouse.move(x + 1, y + 1)
    expect(page.locator("#map-words")).to_contain_text("onerror")
    assert page.locator("#map-words img").count() == 0
    page.mouse.move(x + 60, y + 60)
    page.mouse.wheel(0, -300)
    wait_until(lambda: page.evaluate(INK) != before)
    page.keyboard.press("Tab")
    page.locator("#map canvas").press("0")
    page.mouse.move(x + 1, y + 1)
    expect(page.locator("#map-words")).to_contain_text("onerror")
    page.mouse.click(x + 1, y + 1)
    page.wait_for_url("**/product?id=p000001")
    page.go_back()
    # The cluster's name stands at the mean of its points.
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2 + (1 - 6 / 7) * scale)
    wait_until(lambda: page.evaluate(INK) > 50)
    page.mouse.move(middle[0], middle[1] - 4)
    expect(page.locator("#map-words")).to_have_text("<script>alert(1)</script>")
    page.mouse.click(middle[0], middle[1] - 4)
    page.wait_for_url("**/clusters/1")
    assert "<script>alert(1)</script>" in page.locator("h1").inner_text()


def test_search_finds_as_one_types_and_shows_markup_as_text(open_page: Open) -> None:
    page = open_page(f"{DAG}/product")
    box, found = page.get_by_label("Find a product"), page.locator(".found li")
    box.press_sequentially("script")
    found.get_by_text("<script>alert(1)</script>").first.wait_for()
    assert page.locator(".found script").count() == 0
    box.fill("no such thing")
    found.get_by_text("Nothing found.").wait_for()
    box.fill("p000008")
    found.get_by_text("p000008").wait_for()
    box.press("Enter")
    page.wait_for_url("**/product?id=p000008")
    # A link that can be sent: neighbours lead on to other products.
    page.locator("table a").first.click()
    page.wait_for_url(re.compile("product.id=p00000[09]"))


def test_a_customer_by_id(open_page: Open) -> None:
    page = open_page(f"{DAG}/customer")
    page.get_by_label("Customer id").fill("u0")
    page.get_by_role("button", name="Open").click()
    page.wait_for_url("**/customer?id=u0")
    assert "bought 2 times, last on 3 May 2024" in page.locator("main").inner_text()
    with page.expect_download() as download:
        page.get_by_text("Download as CSV").click()
    assert download.value.suggested_filename == "customer.csv"


def test_a_sessions_list_changes_with_what_was_looked_at(open_page: Open) -> None:
    page = open_page(f"{DAG}/session")
    listed = page.locator("tbody a[href*='/product']")
    popular = listed.all_inner_texts()
    page.get_by_label("Add a product").press_sequentially("p000007")
    page.get_by_label("Add a product").press("Enter")
    page.get_by_role("heading", name="Looked at").wait_for()
    after_one = page.locator("tbody").inner_text()
    assert after_one != popular and "similar" in after_one
    page.get_by_text("look at it").first.click()
    page.wait_for_url(re.compile("id=p000007&id="))
    assert page.locator("tbody").inner_text() != after_one
    page.get_by_text("take away").first.click()
    page.wait_for_url(re.compile(r"session\?id=p0000(?!07)"))


def test_buttons_pause_and_resume_publishing(open_page: Open) -> None:
    assert open_page(DAG).get_by_text("Change it").count() == 0
    page = open_page(DAG, role="ADMIN")
    page.get_by_text("Change it").click()
    page.get_by_label("Pause publishing because").fill("<i>stocktaking</i>")
    page.get_by_role("button", name="Pause").click()
    page.get_by_text("by someone: <i>stocktaking</i>").wait_for()
    page.get_by_text("Change it").click()
    page.get_by_role("button", name="Publish again").click()
    page.get_by_text("stocktaking").wait_for(state="detached")
