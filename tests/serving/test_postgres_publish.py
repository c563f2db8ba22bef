"""Publishing to a real Postgres: what readers see, what a failure leaves, and that the password shows nowhere."""

from __future__ import annotations

import logging
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from pydantic import SecretStr

from embedded_postgres import embedded_postgres
from finished_run import stamped_rows, write_run
from shelfkin import tables
from shelfkin.artifacts import Root, RunPaths
from shelfkin.errors import ArtifactError, ProfileError, PublishError, PublishUnavailableError, ShelfkinError
from shelfkin.serving import postgres_publish
from shelfkin.serving.postgres_layout import PUBLISHED_TABLES
from shelfkin.serving.publish import PublishResult, publish_run
from shelfkin.settings import PostgresTarget, Settings

SCHEMA = "shelfkin_shop"
PASSWORD = "PLANTED-7e57/c0ffee"
PASSWORD_IN_URL = PASSWORD.replace("/", "%2F")
VIEWS = [table.name for table in PUBLISHED_TABLES]
# Every table's number of rows and one stamped column.
STAMPED = {
    tables.CLUSTERS: "size",
    tables.PRODUCTS: "price",
    tables.PRODUCT_CLUSTERS: "distance",
    tables.SIMILAR_PRODUCTS: "score",
    tables.USER_RECOMMENDATIONS: "score",
    tables.POPULAR_PRODUCTS: "score",
    tables.RECOMMENDER_METRICS: "value",
}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with embedded_postgres() as url:
        yield url


@dataclass
class Shop:
    """A schema of its own and an artifact root of its own."""

    url: str
    artifacts: Path
    admin: psycopg.Connection

    def publish(
        self,
        stamp: int,
        day: int = 1,
        run_id: str | None = None,
        *,
        url: str | None = None,
        keep: int = 3,
        **shape: int,
    ) -> PublishResult:
        return self.publish_written(*self.written(stamp, day, run_id, **shape), url=url, keep=keep)

    def publish_written(
        self, paths: RunPaths, uris: list[str], *, url: str | None = None, keep: int = 3
    ) -> PublishResult:
        return publish_run(paths, uris, publish=True, postgres=PostgresTarget(SecretStr(url or self.url), keep))

    def written(self, stamp: int, day: int = 1, run_id: str | None = None, **shape: int) -> tuple[RunPaths, list[str]]:
        as_of = str(date(2024, 6, 1) + timedelta(days=day - 1))
        return write_run(self.artifacts, stamped_rows(stamp, **shape), as_of=as_of, run_id=run_id or f"run-{stamp}")

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        return self.admin.execute(statement, list(values)).fetchall()

    def served(self) -> tuple[Any, ...] | None:
        rows = self.query(f"SELECT run, run_id, as_of::text FROM {SCHEMA}.served_run")
        return rows[0] if rows else None

    def stamps(self) -> set[float]:
        return {
            float(row[0])
            for name, column in STAMPED.items()
            for row in self.query(f"SELECT DISTINCT {column} FROM {SCHEMA}.{name}")
        }

    def kept(self) -> set[int]:
        """Numbers of the runs that have rows in any table."""
        return {row[0] for name in STAMPED for row in self.query(f"SELECT DISTINCT run FROM {SCHEMA}.all_{name}")}


@pytest.fixture
def shop(server: str, tmp_path: Path) -> Iterator[Shop]:
    with psycopg.connect(server, autocommit=True) as admin:
        yield Shop(server, tmp_path / "artifacts", admin)
        admin.execute("RESET ALL")
        admin.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")


def latest(shop: Shop) -> str:
    return str(Root.at(str(shop.artifacts)).read_json(f"{shop.artifacts}/stores/shop/published/latest.json")["run_id"])


def wait_for(question: Callable[[], list[tuple[Any, ...]]], timeout_s: float = 60) -> tuple[Any, ...]:
    """Ask until there is an answer, and return its first row."""
    ends = time.monotonic() + timeout_s
    while time.monotonic() < ends:
        if rows := question():
            return rows[0]
        time.sleep(0.002)
    raise AssertionError(f"no answer within {timeout_s} s")


def test_a_shop_finds_every_table_with_its_keys_and_the_run(shop: Shop) -> None:
    result = shop.publish(7)
    assert result.is_latest and latest(shop) == "run-7"
    assert result.xcom()["postgres_run"] == 1
    assert shop.served() == (1, "run-7", "2024-06-01")
    assert shop.stamps() == {7.0}
    assert shop.query(f"SELECT * FROM {SCHEMA}.clusters") == [(1, "name 7", 7, ["x"], None, "kept", 1)]
    assert shop.query(f"SELECT reasons FROM {SCHEMA}.user_recommendations WHERE user_id = 'u3'") == [
        ([{"product_id": "p000000", "share": 0.007}],)
    ]
    assert shop.query(
        f"SELECT rank, similar_product_id, score, co_purchase_score FROM {SCHEMA}.similar_products "
        "WHERE product_id = 'p000038' ORDER BY rank"
    ) == [(rank, f"p{(38 + rank) % 40:06d}", 7.0, None) for rank in range(1, 6)]
    assert shop.query(f"SELECT title, category_path, in_stock FROM {SCHEMA}.products WHERE product_id = 'p000039'") == [
        ("title 7", ["a", "b"], None)
    ]


def test_text_that_postgres_can_not_hold_is_replaced_and_hostile_text_arrives_as_it_is(shop: Shop) -> None:
    rows = stamped_rows(1)
    hostile = "'; DROP TABLE x; --\t\\N \"{},\n\x1b[2J\u202e 😀"
    rows[tables.PRODUCTS][0] |= {"title": hostile, "category_path": [hostile, "a\0b"]}
    rows[tables.PRODUCTS][1]["title"] = "a\0b"
    rows[tables.USER_RECOMMENDATIONS][0]["reasons"] = [{"product_id": "a\0b", "share": 1 / 3}]
    paths, uris = write_run(shop.artifacts, rows)
    shop.publish_written(paths, uris)
    assert shop.query(f"SELECT title, category_path FROM {SCHEMA}.products ORDER BY product_id LIMIT 2") == [
        (hostile, [hostile, "a\ufffdb"]),
        ("a\ufffdb", ["a", "b"]),
    ]
    assert shop.query(f"SELECT reasons FROM {SCHEMA}.user_recommendations ORDER BY user_id LIMIT 1") == [
        ([{"product_id": "a\ufffdb", "share": 0.333333}],)
    ]


def test_a_look_up_goes_through_the_key_and_needs_no_sort(shop: Shop) -> None:
    for day in (1, 2, 3):
        shop.publish(day, day, n_products=3000)
    (plan,) = shop.query(
        f"EXPLAIN (FORMAT JSON) SELECT * FROM {SCHEMA}.similar_products WHERE product_id = 'p000123' ORDER BY rank"
    )[0]
    scan = plan[0]["Plan"]
    assert (scan["Node Type"], scan["Index Name"]) == ("Index Scan", "all_similar_products_pkey")
    assert "run = " in scan["Index Cond"] and "product_id = 'p000123'" in scan["Index Cond"]


def test_the_same_run_again_is_not_loaded_again_but_served(shop: Shop) -> None:
    shop.publish(1)
    shop.publish(2, day=2)
    shop.admin.execute(f"UPDATE {SCHEMA}.served SET run = 1")  # an administrator went back
    again = shop.publish(2, day=2)
    assert shop.served() == (2, "run-2", "2024-06-02")
    assert shop.kept() == {1, 2}
    assert not any("rows loaded" in line for line in again.log_lines)


def test_a_cleared_run_with_other_tables_replaces_its_first_ones(shop: Shop) -> None:
    shop.publish(1, run_id="same")
    shop.publish(2, run_id="same")
    assert shop.served() == (2, "same", "2024-06-01")
    assert shop.stamps() == {2.0}


def test_an_older_day_changes_nothing(shop: Shop) -> None:
    shop.publish(5, day=5)
    older = shop.publish(3, day=3)
    assert not older.is_latest and shop.served() == (1, "run-5", "2024-06-05")
    # The pointer file may be behind, on a new artifact root: the database's own date counts too.
    Path(f"{shop.artifacts}/stores/shop/published/latest.json").unlink()
    kept = shop.publish(3, day=3)
    assert kept.xcom()["postgres_run"] is None
    assert any("Postgres serves as of 2024-06-05 and keeps it" in line for line in kept.log_lines)
    assert shop.stamps() == {5.0} and shop.kept() == {1}


def test_a_what_if_run_does_not_touch_the_database(shop: Shop) -> None:
    paths, uris = shop.written(1)
    publish_run(paths, uris, publish=False, postgres=PostgresTarget(SecretStr("postgresql://nowhere.invalid/x"), 3))
    assert shop.query("SELECT to_regnamespace(%s)", SCHEMA) == [(None,)]


def test_history_can_be_read_and_gone_back_to_and_ends_somewhere(shop: Shop) -> None:
    for day in range(1, 6):
        shop.publish(day, day)
    assert shop.kept() == {3, 4, 5}
    assert shop.query(f"SELECT DISTINCT score FROM {SCHEMA}.all_similar_products WHERE run = 4") == [(4.0,)]
    shop.admin.execute(f"UPDATE {SCHEMA}.served SET run = 3")
    assert shop.stamps() == {3.0}
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        shop.admin.execute(f"UPDATE {SCHEMA}.served SET run = 1")
    # What was gone back to is kept until something else is served.
    shop.publish(9, day=2)
    assert shop.served() == (3, "run-3", "2024-06-03") and shop.kept() == {3, 4, 5}
    shop.publish(6, day=6)
    assert shop.stamps() == {6.0} and shop.kept() == {4, 5, 6}


@pytest.mark.parametrize("first", [True, False])
def test_if_the_pointer_can_not_move_the_database_goes_back(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    if not first:
        shop.publish(1)
    paths, uris = shop.written(2, day=2)
    put_json = Root.put_json

    def full(root: Root, uri: str, content: dict[str, Any]) -> bytes:
        if uri == paths.latest_uri():
            raise OSError(28, "No space left on device")
        return put_json(root, uri, content)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(Root, "put_json", full)
        shop.publish_written(paths, uris)
    assert shop.served() == (None if first else (1, "run-1", "2024-06-01"))
    assert shop.stamps() == (set() if first else {1.0})
    shop.publish_written(paths, uris)  # the task's next try
    assert latest(shop) == "run-2" and shop.stamps() == {2.0}


@pytest.mark.parametrize("fault", ["count", "duplicate", "missing key", "no table"])
def test_wrong_tables_are_refused_and_leave_nothing(shop: Shop, fault: str) -> None:
    shop.publish(1)
    rows = stamped_rows(2)
    if fault == "duplicate":
        rows[tables.USER_RECOMMENDATIONS].append(rows[tables.USER_RECOMMENDATIONS][0])
    if fault == "missing key":
        rows[tables.POPULAR_PRODUCTS][0]["product_id"] = None
        rows[tables.POPULAR_PRODUCTS][0]["scope"] = None
    paths, uris = write_run(shop.artifacts, rows, as_of="2024-06-02", run_id="bad")
    manifest = paths.root.read_json(paths.manifest_uri("build_recommendations"))
    if fault == "count":
        manifest["tables"][tables.USER_RECOMMENDATIONS]["rows"] = 6
        paths.root.put_json(paths.manifest_uri("build_recommendations"), manifest)
    if fault == "no table":
        uris = [uri for uri in uris if "evaluate_recommenders" not in uri]
    expected: tuple[type[ShelfkinError], str] = {
        "count": (ArtifactError, "user_recommendations has 5 rows, but .* says 6"),
        "duplicate": (PublishError, r"\(23505\).*\(run, user_id, rank\)=\(2, u0, 1\) already exists"),
        "missing key": (PublishError, r"\(23502\).*scope"),
        "no table": (ArtifactError, "No stage of this run wrote product_variants"),
    }[fault]
    with pytest.raises(expected[0], match=expected[1]) as caught:
        shop.publish_written(paths, uris)
    assert caught.value.next_step and not caught.value.retryable
    assert shop.served() == (1, "run-1", "2024-06-01") and shop.kept() == {1}
    assert latest(shop) == "run-1"


def test_a_long_reader_holds_nobody_up_and_keeps_its_run_even_after_it_was_removed(shop: Shop) -> None:
    shop.publish(1)
    with psycopg.connect(shop.url) as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        assert reader.execute(f"SELECT DISTINCT score FROM {SCHEMA}.similar_products").fetchall() == [(1.0,)]
        for day in (2, 3, 4):
            shop.publish(day, day, keep=2)  # waits for nobody: it would end at its lock's timeout
        assert shop.stamps() == {4.0} and shop.kept() == {3, 4}
        for name, column in STAMPED.items():
            assert reader.execute(f"SELECT DISTINCT {column} FROM {SCHEMA}.{name}").fetchall() == [(1,)]


def test_statements_of_one_read_committed_transaction_follow_the_runs(shop: Shop) -> None:
    with psycopg.connect(shop.url) as reader:
        for day in (1, 2, 3):
            shop.publish(day, day)
            counted = reader.execute(f"SELECT count(*), min(run), max(run) FROM {SCHEMA}.similar_products").fetchone()
            assert counted == (200, day, day)


def test_room_of_removed_runs_is_used_again(shop: Shop) -> None:
    def size() -> int:
        return int(shop.query("SELECT pg_total_relation_size(%s)", f"{SCHEMA}.all_similar_products")[0][0])

    sizes = []
    for day in range(1, 11):
        shop.publish(day, day, n_products=2000, keep=2)
        sizes.append(size())
    # Two kept and one being loaded; without the vacuum the tenth would be ten times the first.
    assert sizes[-1] <= 3.3 * sizes[0]


def test_a_clean_up_that_fails_costs_nothing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    for day in (1, 2, 3):
        shop.publish(day, day)
    with psycopg.connect(shop.url) as locker, monkeypatch.context() as patch:
        # Rows of run 1 are held: the clean-up after run 4 waits for them, then gives up.
        patch.setattr(postgres_publish, "_WAIT_FOR_OTHERS_S", 1)
        locker.execute(f"SELECT * FROM {SCHEMA}.all_products WHERE run = 1 FOR UPDATE")
        busy = shop.publish(4, day=4)
    assert "Postgres: old runs were not removed (55P03); the next publish does it." in busy.log_lines
    assert shop.stamps() == {4.0} and latest(shop) == "run-4" and shop.kept() == {1, 2, 3, 4}
    shop.publish(5, day=5)
    assert shop.kept() == {3, 4, 5}


def test_an_administrators_lock_delays_the_publish_and_no_reader(shop: Shop) -> None:
    shop.publish(1)
    waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = %s::regclass"
    with psycopg.connect(shop.url) as locker, ThreadPoolExecutor(1) as pool:
        locker.execute(f"LOCK TABLE {SCHEMA}.all_products IN SHARE MODE")
        publishing = pool.submit(shop.publish, 2, 2)
        wait_for(lambda: shop.query(waiting, f"{SCHEMA}.all_products"))
        shop.admin.execute("SET statement_timeout = '1s'")  # no reader waits as long
        assert shop.stamps() == {1.0}
        locker.rollback()
        publishing.result(timeout=30)
    assert shop.stamps() == {2.0}


def test_a_second_publish_of_the_same_store_waits_and_then_says_so(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_publish, "_WAIT_FOR_OTHERS_S", 1)
    with psycopg.connect(shop.url) as other:
        other.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [SCHEMA])
        with pytest.raises(PublishUnavailableError, match="Another publish of store shop") as caught:
            shop.publish(1)
    assert caught.value.retryable
    shop.publish(1)


def watch_readers(shop: Shop, n_publishes: int) -> dict[str, int]:
    """Publish again and again beside readers that ask all tables at once, and return how much they saw."""
    shop.publish(1)
    one_statement = "SELECT " + ", ".join(
        f"(SELECT (count(*), min({column}), max({column}), min(run), max(run))::text FROM {SCHEMA}.{name})"
        for name, column in STAMPED.items()
    )
    rows = {name: len(stamped_rows(1)[name]) for name in STAMPED}
    stop = threading.Event()
    seen: dict[str, set[str]] = {"one statement": set(), "one transaction": set()}
    asked = dict.fromkeys(seen, 0)
    wrong: list[object] = []

    def check(kind: str, answers: list[str]) -> None:
        runs_seen = set()
        for name, text in zip(STAMPED, answers, strict=True):
            n, *stamp_and_run = text.strip("()").split(",")
            runs_seen.add(tuple(stamp_and_run))
            if int(n) != rows[name]:
                wrong.append((kind, name, text))
        if len(runs_seen) != 1:
            wrong.append((kind, answers))
        seen[kind].add(answers[0])
        asked[kind] += 1

    def read(kind: str) -> None:
        try:
            with psycopg.connect(shop.url, autocommit=True) as db:
                db.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                while not stop.is_set():
                    if kind == "one statement":
                        check(kind, list(db.execute(one_statement).fetchone() or ()))
                        continue
                    with db.transaction():
                        answers = []
                        for name, column in STAMPED.items():
                            what = f"(count(*), min({column}), max({column}), min(run), max(run))::text"
                            row = db.execute(f"SELECT {what} FROM {SCHEMA}.{name}").fetchone()
                            answers.append(row[0] if row else "")
                    check(kind, answers)
        except Exception as error:  # noqa: BLE001 - a reader must see no error whatever
            wrong.append(error)

    readers = [threading.Thread(target=read, args=(kind,)) for kind in seen]
    for reader in readers:
        reader.start()
    for day in range(2, n_publishes + 2):
        shop.publish(day, day)
    stop.set()
    for reader in readers:
        reader.join(timeout=30)
    assert wrong == []
    assert shop.stamps() == {float(n_publishes + 1)}
    assert len(shop.kept()) == 3
    return {"runs seen": min(len(answers) for answers in seen.values()), **asked}


def test_readers_see_whole_runs_only(shop: Shop) -> None:
    assert watch_readers(shop, 6)["runs seen"] >= 4


@pytest.mark.slow
def test_readers_see_whole_runs_only_during_fifty_publishes(shop: Shop) -> None:
    seen = watch_readers(shop, 50)
    print(seen)
    assert seen["runs seen"] >= 40


PUBLISH = """
import sys
from datetime import date
from pydantic import SecretStr
from shelfkin.artifacts import Root, RunPaths
from shelfkin.serving.publish import publish_run
from shelfkin.settings import Settings
artifacts, as_of, run_id, *uris = sys.argv[1:]
paths = RunPaths(Root.at(artifacts), "shop", date.fromisoformat(as_of), run_id)
publish_run(paths, uris, publish=True, postgres=Settings.from_env().publish_postgres)
"""


def in_the_middle_of_a_copy(shop: Shop) -> int:
    """Wait until rows are being copied, and return the server process that does it."""
    (pid,) = wait_for(lambda: shop.query("SELECT pid FROM pg_stat_progress_copy WHERE tuples_processed > 1000"))
    return int(pid)


def publishing_process(shop: Shop, paths: RunPaths, uris: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", PUBLISH, str(shop.artifacts), str(paths.as_of), paths.run_id, *uris],
        env={**os.environ, "SHELFKIN_PUBLISH_POSTGRES": shop.url},
    )


def test_kill_minus_nine_in_the_middle_of_a_copy_leaves_the_old_tables(shop: Shop) -> None:
    shop.publish(1)
    paths, uris = shop.written(2, day=2, n_products=20_000, n_similar=15)
    process = publishing_process(shop, paths, uris)
    in_the_middle_of_a_copy(shop)
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=30) == -signal.SIGKILL
    assert shop.served() == (1, "run-1", "2024-06-01") and shop.stamps() == {1.0}
    assert latest(shop) == "run-1"
    shop.publish_written(paths, uris)
    assert shop.served() == (2, "run-2", "2024-06-02") and shop.stamps() == {2.0}
    assert shop.kept() == {1, 2}


@pytest.mark.slow
def test_kill_minus_nine_at_any_moment_leaves_one_whole_run(shop: Shop) -> None:
    """Between two steps as well: from its first connection on, a publish of this size takes about 0.3 s."""
    shop.publish(1)
    n_publishers = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'shelfkin publish shop' HAVING "
    outcomes = []
    for day in range(2, 22):
        paths, uris = shop.written(day, day, n_products=2000)
        process = publishing_process(shop, paths, uris)
        wait_for(lambda: shop.query(n_publishers + "count(*) = 1"))
        time.sleep(random.Random(day).uniform(0, 0.2))
        process.kill()
        process.wait(timeout=30)
        wait_for(lambda: shop.query(n_publishers + "count(*) = 0"))  # the server notices a moment later
        served, stamps = shop.served(), shop.stamps()
        assert served is not None and stamps == {float(served[1].removeprefix("run-"))}
        assert stamps <= {float(day - 1), float(day)}
        # The pointer file is never ahead of the database.
        assert latest(shop) in (f"run-{day - 1}", served[1])
        outcomes.append((stamps == {float(day)}, latest(shop) == f"run-{day}"))
        shop.publish_written(paths, uris)
        assert shop.stamps() == {float(day)} and latest(shop) == f"run-{day}" and len(shop.kept()) <= 3
    print(f"served before the kill, pointer moved: {outcomes}")
    assert len({served for served, _ in outcomes}) == 2


def test_a_connection_that_breaks_off_is_worth_another_try(shop: Shop) -> None:
    shop.publish(1)
    paths, uris = shop.written(2, day=2, n_products=20_000, n_similar=15)
    with ThreadPoolExecutor(1) as pool, pytest.raises(PublishUnavailableError) as caught:
        publishing = pool.submit(shop.publish_written, paths, uris)
        shop.query("SELECT pg_terminate_backend(%s)", in_the_middle_of_a_copy(shop))
        publishing.result(timeout=60)
    assert caught.value.next_step
    assert shop.served() == (1, "run-1", "2024-06-01") and shop.kept() == {1}


def with_user(url: str, user: str, password: str) -> str:
    return url.replace(f"//{urlsplit(url).netloc}", f"//{user}:{password}@")


def asks_for_a_password(url: str) -> list[tuple[Any, ...]]:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError as error:
        return [(error,)]
    return []


@pytest.fixture
def guarded(server: str, shop: Shop) -> Iterator[str]:
    """URL of the database for a user who needs PASSWORD: the tests' server trusts everybody else."""
    shop.admin.execute(f"CREATE ROLE keeper LOGIN PASSWORD '{PASSWORD}'")
    ((path,),) = shop.query("SHOW hba_file")
    rules = Path(path).read_text()
    Path(path).write_text("local all keeper scram-sha-256\n" + rules)
    shop.query("SELECT pg_reload_conf()")
    wait_for(lambda: asks_for_a_password(with_user(shop.url, "keeper", "none")))
    yield with_user(shop.url, "keeper", PASSWORD_IN_URL)
    Path(path).write_text(rules)
    shop.query("SELECT pg_reload_conf()")
    shop.admin.execute("DROP OWNED BY keeper CASCADE")
    shop.admin.execute("DROP ROLE keeper")


def test_every_statement_of_the_documentation_runs(shop: Shop) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "serving.md").read_text()
    blocks = re.findall(r"```sql\n(.*?)```", text, flags=re.DOTALL)
    statements = [part.strip() for block in blocks for part in re.sub(r"--.*", "", block).split(";") if part.strip()]
    assert len(statements) == 10
    for day in (1, 2):
        shop.publish(day, day)
    shop.admin.execute("CREATE ROLE web")
    answers = {}
    with psycopg.RawCursor(shop.admin) as cursor:
        for statement in statements:
            if statement.startswith(("CREATE ROLE shelfkin", "CREATE SCHEMA")):
                continue
            for documented, here in (("my_shop", "shop"), ("= 16", "= 1"), ("'P316'", "'p000003'")):
                statement = statement.replace(documented, here)
            key = "u3" if "user_id = $1" in statement else "p000003"
            cursor.execute(statement, [key] if "$1" in statement else None)
            if cursor.description:
                answers[statement] = cursor.fetchall()
    shop.admin.execute("DROP OWNED BY web")
    shop.admin.execute("DROP ROLE web")
    assert [len(rows) for rows in answers.values()] == [5, 1, 1, 2, 5]
    assert shop.stamps() == {1.0}  # gone back to


def test_a_role_with_the_documented_rights_publishes_and_another_reads(shop: Shop, guarded: str) -> None:
    with pytest.raises(PublishError, match=r"42501.*permission denied for database") as refused:
        shop.publish(1, url=guarded)
    assert "Grant it" in refused.value.next_step
    shop.admin.execute(f"CREATE SCHEMA {SCHEMA} AUTHORIZATION keeper")
    shop.publish(1, url=guarded)
    with psycopg.connect(guarded, autocommit=True) as keeper:
        keeper.execute(f"GRANT USAGE ON SCHEMA {SCHEMA} TO pg_monitor")
        views = ", ".join(f"{SCHEMA}.{view}" for view in [*VIEWS, "served_run"])
        keeper.execute(f"GRANT SELECT ON {views} TO pg_monitor")
    shop.publish(2, day=2, url=guarded)
    # Grants are on views that stay, so a new run needs none; the tables behind them are out of a reader's reach.
    shop.admin.execute("SET ROLE pg_monitor")
    assert shop.stamps() == {2.0} and shop.served() == (2, "run-2", "2024-06-02")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        shop.query(f"SELECT * FROM {SCHEMA}.all_products")
    shop.admin.execute("RESET ROLE")


def everything_shown(caught: pytest.ExceptionInfo[BaseException], log: pytest.LogCaptureFixture) -> str:
    chain = "".join(traceback.format_exception(caught.value))
    return f"{caught.value}{caught.value!r}{chain}{log.text}"


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        ("wrong password", PublishError, "authentication failed"),
        ("no database", PublishError, "does not exist"),
        ("nobody there", PublishUnavailableError, "can't be reached"),
        ("unreadable", PublishError, "not a URL that libpq can read"),
    ],
)
def test_a_connection_that_fails_says_what_to_do_and_never_the_password(
    shop: Shop, guarded: str, caplog: pytest.LogCaptureFixture, fault: str, kind: type[ShelfkinError], says: str
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "Wrong-" + PASSWORD
    bad = with_user(shop.url, "keeper", secret.replace("/", "%2F"))
    url = {
        "wrong password": bad,
        "no database": guarded.replace(f"/{urlsplit(guarded).path[1:]}?", f"/{PASSWORD_IN_URL}?"),
        "nobody there": f"postgresql://keeper:{PASSWORD_IN_URL}@127.0.0.1:1/shop",
        "unreadable": f"postgresql://keeper:%zz{PASSWORD_IN_URL}@127.0.0.1/shop",
    }[fault]
    with pytest.raises(kind, match=says) as caught:
        shop.publish(1, url=url)
    shown = everything_shown(caught, caplog)
    assert caught.value.next_step
    for form in (PASSWORD, PASSWORD_IN_URL, "c0ffee"):
        assert form not in shown
    assert Settings.from_env({"SHELFKIN_PUBLISH_POSTGRES": url}).publish_postgres
    assert "c0ffee" not in repr(Settings.from_env({"SHELFKIN_PUBLISH_POSTGRES": url}))


def test_a_published_run_leaves_the_password_nowhere(
    shop: Shop, guarded: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    shop.admin.execute(f"CREATE SCHEMA {SCHEMA} AUTHORIZATION keeper")
    result = shop.publish(1, url=guarded)
    shown = [repr(result), str(result.xcom()), caplog.text]
    shown += [path.read_text(errors="replace") for path in shop.artifacts.rglob("*") if path.is_file()]
    shown += [str(row) for row in shop.query("SELECT * FROM pg_stat_activity")]
    assert not [text for text in shown if "c0ffee" in text]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg2://u:c0ffee@h/db",
        "host=h password=c0ffee",
        "postgresql://u:c0@ffee@h/db",
        "postgresql://u:c0/ffee@h/db",
    ],
)
def test_a_url_that_would_spill_its_password_is_refused_unread(url: str) -> None:
    with pytest.raises(ProfileError) as caught:
        Settings.from_env({"SHELFKIN_PUBLISH_POSTGRES": url})
    assert "SHELFKIN_PUBLISH_POSTGRES" in str(caught.value) and "postgresql://user:password@" in str(caught.value)
    assert "c0" not in str(caught.value) and "ffee" not in str(caught.value)


@pytest.mark.parametrize("number", ["1", "0", "-3", "many", "3.5", "1000"])
def test_the_number_of_kept_runs_is_checked(number: str) -> None:
    env = {"SHELFKIN_PUBLISH_POSTGRES": "postgresql://h/db", "SHELFKIN_PUBLISH_KEEP_RUNS": number}
    with pytest.raises(ProfileError, match="from 2 to 999"):
        Settings.from_env(env)


def test_a_layout_of_another_version_is_left_alone(shop: Shop) -> None:
    shop.publish(1)
    shop.admin.execute(f"COMMENT ON TABLE {SCHEMA}.runs IS 'shelfkin published tables, layout 0'")
    with pytest.raises(PublishError, match="layout 0"):
        shop.publish(2, day=2)
    assert shop.stamps() == {1.0}


def test_a_database_that_can_not_hold_every_title_is_refused(server: str, shop: Shop) -> None:
    with psycopg.connect(server, autocommit=True) as db:
        name = f"old_{os.urandom(4).hex()}"
        db.execute(f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(PublishError, match="stores text as LATIN1"):
        shop.publish(1, url=server.replace("/postgres?", f"/{name}?"))


def test_an_older_server_does_as_well(tmp_path: Path) -> None:
    with embedded_postgres(version=16) as url, psycopg.connect(url, autocommit=True) as admin:
        shop = Shop(url, tmp_path, admin)
        assert shop.query("SHOW server_version_num")[0][0].startswith("16")
        for day in range(1, 5):
            shop.publish(day, day)
        assert shop.stamps() == {4.0} and shop.kept() == {2, 3, 4}
