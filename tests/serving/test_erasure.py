"""A customer who is erased stands nowhere any more, to the byte; everybody else's rows stay as they were."""

from __future__ import annotations

import json
import sqlite3
import sys
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from psycopg import sql
from pydantic import SecretStr

from embedded_postgres import embedded_postgres
from finished_run import Rows, stamped_rows, write_run
from shelfkin import tables
from shelfkin.__main__ import main
from shelfkin.artifacts import Manifest, Root, RunPaths, latest_pointer_uri
from shelfkin.erased_users import ErasedUsers, normalised
from shelfkin.errors import ArtifactError, OptionError
from shelfkin.profile import IdRule, StoreProfile
from shelfkin.recommending import timelines
from shelfkin.serving import erasing_cuts, erasure
from shelfkin.serving.forgetting import erase_again, forget, what_would_go
from shelfkin.serving.index import open_index
from shelfkin.serving.publish import publish_run
from shelfkin.serving.rollback import Decision, roll_back
from shelfkin.settings import PostgresTarget, Settings

WHO = "ZÖE-QUIXOTIC.7731@EXAMPLE"
WRITTEN = f"  {WHO.lower()} "
DAYS = ("2024-06-01", "2024-06-02")
LATER = datetime.now(UTC) + timedelta(days=1)
PROFILE: dict[str, Any] = {
    "store": "shop",
    "title": "Shop",
    "catalog": {"kind": "events", "fields": {"product_id": "sku", "title": "name"}},
    "events": {
        "source": {"path": "events.csv"},
        "fields": {"user_id": "customer", "product_id": "sku", "occurred_at": "at"},
        "user_id": {"case": "upper"},
    },
}
PROFILED = StoreProfile.model_validate(PROFILE)
STRINGS = pa.list_(pa.string())
QUARANTINE = pa.schema(dict.fromkeys(("reason", "detail", "raw"), pa.string()))
REPORT = pa.schema({"topic": pa.string(), "name": pa.string(), "rows": pa.int64(), "examples": STRINGS})
TIMELINES = pa.schema({"kind": pa.int32(), "id": pa.string(), "items": pa.list_(pa.int32())})


def shop_rows(stamp: int) -> Rows:
    """Return a shop in which our customer is one of six."""
    rows = stamped_rows(stamp, n_products=10)
    moment = datetime(2024, 5, 3, 12, tzinfo=UTC)
    bought = {"product_id": "p000001", "event_type": "purchase", "occurred_at": moment, "quantity": 1.0}
    # Many rows, so that Parquet's dictionary holds the id once.
    rows[tables.EVENTS] = [{"user_id": who, **bought} for who in ("u0", WHO, None, "u1") for _ in range(50)]
    rows[tables.USER_RECOMMENDATIONS] += [
        {**rows[tables.USER_RECOMMENDATIONS][0], "user_id": WHO, "rank": rank, "product_id": f"p00000{rank}"}
        for rank in (1, 2)
    ]
    return rows


def raw(customer: str | None, n: str = "0") -> str:
    return json.dumps({"customer": customer, "sku": "p1", "n": n}, ensure_ascii=False)


def quarantined() -> list[dict[str, str]]:
    line = json.dumps({"malformed_line": f'"x";{WRITTEN};"p1'}, ensure_ascii=False)
    return [
        {"reason": "zero_quantity", "detail": "n '0'", "raw": raw(WRITTEN)},
        {"reason": "zero_quantity", "detail": "n '0'", "raw": raw("u0", WHO[:5])},
        {"reason": "bad_time", "detail": "at ''", "raw": raw(None)},
        {"reason": "malformed_row", "detail": f"line 'x;{WRITTEN};'", "raw": line},
        {"reason": "malformed_row", "detail": "line '?'", "raw": json.dumps({"malformed_line": "?"})},
    ]


def add_table(paths: RunPaths, stage: str, table: str, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    """Let a stage have written one more table, in two files; its manifest counts the rows."""
    folder = Path(paths.attempt_uri(stage, "attempt-1")) / table
    folder.mkdir(parents=True)
    for part, some in enumerate((rows[:2], rows[2:])):
        pq.write_table(pa.Table.from_pylist(some, schema=schema), folder / f"part-{part}.parquet")
    manifest = paths.root.read_json(paths.manifest_uri(stage))
    manifest["tables"][table] = {"path": paths.root.relative(str(folder)), "rows": len(rows)}
    paths.root.put_json(paths.manifest_uri(stage), manifest)


def make_run(artifacts: Path, day: str) -> tuple[RunPaths, list[str]]:
    paths, uris = write_run(artifacts, shop_rows(int(day[-1])), as_of=day, run_id=f"run of {day}")
    report = [
        {"topic": "field", "name": "user_id", "rows": 200, "examples": [WHO, "u1"]},
        {"topic": "reason", "name": "malformed_row", "rows": 2, "examples": [f"line 'x;{WRITTEN}'"]},
        {"topic": "field", "name": "quantity", "rows": 200, "examples": ["0", "1"]},
    ]
    for stage, names in (
        ("clean_events", (tables.EVENTS_QUARANTINE, tables.EVENTS_REPORT)),
        ("clean_catalog", (tables.PRODUCTS_QUARANTINE, tables.PRODUCTS_REPORT)),
    ):
        add_table(paths, stage, names[0], quarantined(), QUARANTINE)
        add_table(paths, stage, names[1], report, REPORT)
    lines = [{"kind": kind, "id": who, "items": [1]} for kind, who in ((0, WHO), (0, "u0"), (1, "order 7"))]
    add_table(paths, "evaluate_recommenders", tables.TIMELINES, lines, TIMELINES)
    counts = {"rows_in": 210, "kept": 200, "quarantined": 5, "merged": 5}
    by_reason = {"zero_quantity": 2, "malformed_row": 2, "bad_time": 1}
    uri = paths.manifest_uri("clean_events")
    paths.root.put_json(uri, {**paths.root.read_json(uri), "counts": {**counts, "quarantined_by_reason": by_reason}})
    account = {"stage": "select_k", "kind": "x", "message": f"no such thing: {WRITTEN}!", "next_step": ""}
    paths.root.put_json(paths.error_uri("select_k"), account)
    return paths, uris


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresTarget]:
    with embedded_postgres() as url:
        yield PostgresTarget(SecretStr(url), 3)


@pytest.fixture
def database(postgres: PostgresTarget) -> PostgresTarget:
    """The server without any published run."""
    with psycopg.connect(postgres.url.get_secret_value(), autocommit=True) as db:
        db.execute("DROP SCHEMA IF EXISTS shelfkin_shop CASCADE")
    return postgres


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """A published day, a what-if run, and what a failed try left."""
    paths, uris = make_run(tmp_path, DAYS[0])
    publish_run(paths, uris, publish=True)
    paths, uris = write_run(tmp_path, shop_rows(9), as_of=DAYS[0], run_id="what if")
    publish_run(paths, uris, publish=False)
    torn = Path(paths.attempt_uri("clean_events", "attempt-0")) / tables.EVENTS
    torn.mkdir(parents=True)
    pq.write_table(pa.table({"user_id": [WHO, "u0"]}), torn / "part-0.parquet")
    return Root.at(str(tmp_path))


def values_of(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list | tuple):
        for one in value.values() if isinstance(value, dict) else value:
            yield from values_of(one)
    else:
        yield str(value)


def places(artifacts: Path, who: str) -> list[str]:
    """Return every place below a folder that holds an id, in any case: bytes, and what Parquet and SQLite pack."""
    found = []
    for path in artifacts.rglob("*"):
        if not path.is_file():
            continue
        data = path.read_bytes()
        texts = [data.decode(errors="ignore"), json.dumps(data.decode("latin-1")), str(path)]
        if path.suffix == ".parquet":
            texts += [text for row in pq.ParquetFile(path).read().to_pylist() for text in values_of(row)]
        if path.suffix == ".sqlite":
            with sqlite3.connect(path) as db:
                for user_id, packed in db.execute("SELECT user_id, packed FROM user"):
                    texts += [user_id, zlib.decompress(packed).decode()]
        needles = (who.lower(), json.dumps(who).strip('"').lower(), "quixotic.7731")
        if any(needle in text.lower() for text in texts for needle in needles):
            found.append(path.relative_to(artifacts).as_posix())
    return found


def all_rows(root: Root) -> dict[str, list[Any]]:
    """Return every row of every table that a manifest names, by run, stage and table."""
    found = {}
    for uri in sorted(Path(root.uri).rglob("manifest.json")):
        manifest = Manifest.read(root, str(uri))
        for table in manifest.content["tables"]:
            rows = manifest.dataset(table).to_table().to_pylist()
            assert len(rows) == manifest.rows(table)
            found[f"{uri.parent.relative_to(root.uri)}/{table}"] = rows
    return found


def rows_in(target: PostgresTarget) -> dict[str, list[Any]]:
    with psycopg.connect(target.url.get_secret_value()) as db:
        names = db.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'shelfkin_shop'").fetchall()
        return {
            name: db.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier("shelfkin_shop", name))).fetchall()
            for (name,) in names
        }


def without(rows: list[Any]) -> list[Any]:
    return [row for row in rows if not any("quixotic" in text.lower() for text in values_of(row))]


@contextmanager
def visited(root: Root) -> Iterator[list[int]]:
    """Let somebody follow the pointer, open the index and ask for a list, again and again while the block lasts."""
    visits: list[int] = []
    over = Event()

    def visit() -> None:
        while not over.is_set():
            with open_index(root, root.read_json(latest_pointer_uri(root, "shop")), Path(root.uri)) as index:
                page = index.user("u0")
                assert page and page.recommendations and index.run()["n_users_with_lists"] in (5, 6)
                visits.append(len(page.recommendations))

    with ThreadPoolExecutor(1) as visitor:
        visiting = visitor.submit(visit)
        try:
            yield visits
        finally:
            over.set()
        visiting.result()


def test_no_byte_of_an_erased_customer_is_left_and_everybody_else_stays(
    root: Root, database: PostgresTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, uris = make_run(Path(root.uri), DAYS[1])
    publish_run(paths, uris, publish=True)
    for day in DAYS:
        roll_back(root, "shop", date.fromisoformat(day), Decision("ada", "load it"), database)
    before, served = all_rows(root), rows_in(database)
    held = places(Path(root.uri), WHO)
    assert {path.rsplit("/", 1)[1].split(".")[-1] for path in held} == {"parquet", "sqlite", "json"}
    # As pages do: opened before, asked during and after.
    pointer = root.read_json(latest_pointer_uri(root, "shop"))
    reader = open_index(root, pointer, Path(root.uri))
    assert reader.user(WHO) and reader.run()["n_users_with_lists"] == 6

    monkeypatch.setattr(erasure, "AT_WORK", timedelta(seconds=-1))
    would = what_would_go(root, PROFILED, WRITTEN, database)
    assert places(Path(root.uri), WHO) == held and rows_in(database) == served
    with visited(root) as n_visits:
        done = forget(root, PROFILED, WRITTEN, "ada", "ticket 12", database)
    assert len(n_visits) > 1
    assert would.rows == done.rows and would.runs == done.runs

    assert places(Path(root.uri), WHO) == []
    left = rows_in(database)
    assert "quixotic" not in str(left).lower()
    for table, rows in served.items():
        expected = without(rows)
        if table == "runs":
            assert [row[-2]["user_recommendations"] for row in left[table]] == [5, 5]
        else:
            assert sorted(map(str, left[table])) == sorted(map(str, expected))
    assert len(left["all_user_recommendations"]) == 10

    after = all_rows(root)
    assert after.keys() == before.keys()
    for name, rows in before.items():
        if name.endswith("_report"):
            assert [row["examples"] for row in after[name]] == [["u1"], [], ["0", "1"]]
        elif name.endswith("_quarantine"):
            assert [row["reason"] for row in after[name]] == ["zero_quantity", "bad_time"] + ["malformed_row"] * 2
            assert [row for row in after[name] if "withheld" not in row["raw"]] == without(rows)
        else:
            assert after[name] == without(rows)

    # The page that was open, a thread of it that comes new, and the pointers' own index.
    with ThreadPoolExecutor(1) as other:
        assert reader.user("u0") and other.submit(reader.user, "u1").result()
    with open_index(root, pointer, Path(root.uri)) as again:
        assert again.user("u0") and again.user(WHO) is None
    pointer = root.read_json(latest_pointer_uri(root, "shop"))
    assert pointer["rolled_back"]["why"] == "load it"
    with open_index(root, pointer, Path(root.uri)) as index:
        assert index.user(WHO) is None and index.run()["n_users_with_lists"] == 5
        assert len(index.example_users()) == 3 and index.user("u1")
        assert [one.n_lists for one in index.products(["p000002"])] == [1]
    # A day can still be gone back to, and Postgres knows its run again.
    roll_back(root, "shop", date(2024, 6, 1), Decision("ada", "still there"), database)
    assert len(rows_in(database)["runs"]) == 2


def test_manifests_add_up_and_say_what_happened(root: Root) -> None:
    uri = RunPaths(root, "shop", date(2024, 6, 1), "run of 2024-06-01").manifest_uri("clean_events")
    was = Manifest.read(root, uri)
    forget(root, PROFILED, WHO, "ada", "ticket 12", None)
    manifest = Manifest.read(root, uri).content
    assert manifest["counts"] == {
        **{"rows_in": 210, "kept": 150, "quarantined": 4, "merged": 5, "erased": 51},
        "quarantined_by_reason": {"zero_quantity": 1, "malformed_row": 2, "bad_time": 1},
    }
    (entry,) = manifest["rewritten"]
    assert entry["manifest_was"] == was.sha256 and entry["rows"]["events"] == 50
    (record,) = [path for path in Path(root.join("stores/shop/erased")).iterdir() if path.name != "salt.json"]
    said = json.loads(record.read_text())
    assert (said["by"], said["why"], said["done"]["n_runs"]) == ("ada", "ticket 12", 2)
    assert said["done"]["rows"]["events"] == 100 and said["at"][:4].isdigit()


def test_a_customer_whom_nobody_knows_changes_nothing(root: Root) -> None:
    stamps = {path: path.stat().st_mtime_ns for path in Path(root.join("stores/shop/runs")).rglob("*")}
    done = forget(root, PROFILED, "nobody", "ada", "x", None)
    assert done.rows == {} and done.runs == set()
    assert stamps == {path: path.stat().st_mtime_ns for path in Path(root.join("stores/shop/runs")).rglob("*")}


def test_a_run_that_cannot_be_read_is_told_and_the_others_are_done(root: Root) -> None:
    broken = Path(RunPaths(root, "shop", date(2024, 5, 1), "cut").manifest_uri("clean_events"))
    broken.parent.mkdir(parents=True)
    broken.write_text('{"format_version": 1, "stage": ')
    with pytest.raises(ArtifactError, match="1 runs can't be read"):
        forget(root, PROFILED, WHO, "ada", "x", None)
    assert not [path for path in places(Path(root.uri), WHO) if "attempt-0" not in path]
    broken.unlink()
    erase_again(root, PROFILED, None)


def test_what_a_stage_may_be_writing_is_left_and_told(root: Root) -> None:
    done = forget(root, PROFILED, WHO, "ada", "x", None)
    assert [uri.split("/")[-2:] for uri in done.at_work] == [["attempt-0", "events"]]
    assert erasure.erase(root, PROFILED, erasure.erased_users(root, PROFILED), do=True, now=LATER).at_work == []
    assert places(Path(root.uri), WHO) == []


def killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_killed_between_manifests_and_pointers_it_is_completed_by_doing_it_again(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(erasure._Run, "_indexes", killed)
        with pytest.raises(KeyboardInterrupt):
            forget(root, PROFILED, WHO, "ada", "x", None)
    # Readers still have whole tables: the old ones.
    entry = root.read_json(latest_pointer_uri(root, "shop"))["tables"]["user_recommendations"]
    assert sum(pq.read_table(path).num_rows for path in Path(entry["path"]).iterdir()) == entry["rows"] == 7
    monkeypatch.setattr(erasure, "AT_WORK", timedelta(seconds=-1))
    erase_again(root, PROFILED, None)
    assert places(Path(root.uri), WHO) == []
    entry = root.read_json(latest_pointer_uri(root, "shop"))["tables"]["user_recommendations"]
    assert sum(pq.read_table(path).num_rows for path in Path(entry["path"]).iterdir()) == entry["rows"] == 5


def test_a_run_that_read_the_customer_before_is_published_without(root: Root, tmp_path: Path) -> None:
    forget(root, PROFILED, WHO, "ada", "x", None)
    paths, uris = make_run(tmp_path, "2024-06-03")
    stores = tmp_path / "profiles"
    stores.mkdir()
    (stores / "shop.yaml").write_text(yaml.safe_dump(PROFILE))
    settings = replace(Settings.from_env({}), stores_dir=stores)
    done = erasure.erase_from_run(paths, settings)
    publish_run(paths, uris, publish=True)
    assert done.rows["events"] == 50
    assert not [path for path in places(tmp_path, WHO) if "2024-06-03" in path]


def test_a_reason_is_asked_for_and_may_not_name_the_customer(root: Root) -> None:
    for reason, words in (("", "A reason of 1"), (f"asked by {WRITTEN}", "names the customer")):
        with pytest.raises(OptionError, match=words):
            forget(root, PROFILED, WHO, "ada", reason, None)
    with pytest.raises(OptionError, match="No customer was named"):
        forget(root, PROFILED, " ", "ada", "x", None)
    without_events = {**PROFILE, "catalog": {**PROFILE["catalog"], "kind": "snapshot", "source": {"path": "p.csv"}}}
    shop = StoreProfile.model_validate({name: part for name, part in without_events.items() if name != "events"})
    with pytest.raises(OptionError, match="knows no customers"):
        forget(root, shop, WHO, "ada", "x", None)


def test_the_command_tells_first_and_erases_when_told(
    root: Root, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "shop.yaml").write_text(yaml.safe_dump(PROFILE))
    monkeypatch.setenv("ARTIFACT_ROOT", root.uri)
    monkeypatch.setenv("SHELFKIN_STORES_DIR", str(tmp_path))
    monkeypatch.delenv("SHELFKIN_PUBLISH_POSTGRES", raising=False)
    words = ["shelfkin", "forget", "--store", "shop", "--user", WRITTEN]
    monkeypatch.setattr(sys, "argv", words)
    assert main() == 0
    said = capsys.readouterr().out
    assert "100  events\n" in said and "in 2 runs" in said and "would be erased" in said and "quixotic" not in said
    assert places(tmp_path, WHO)
    monkeypatch.setattr(sys, "argv", [*words, "--yes", "--reason", "ticket 12"])
    assert main() == 0
    said = capsys.readouterr().out
    assert "The shop's own files were not touched" in said and "May be at work" in said


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("536365,A,x,17850,UK", True),
        ("536365,A,x,17850.0,UK", True),
        ('{"customer":"17850"', True),
        ("<id>17850</id>", True),
        ("536365,178501", False),
        ("17850x", False),
    ],
)
def test_a_line_names_a_customer_only_by_the_whole_id(text: str, found: bool) -> None:
    assert ErasedUsers("salt").only("17850").mentioned(text) is found


@pytest.mark.parametrize("user_id", ["#12", "anna maria", "a.b+c-d@x.co.uk", "6f1e5a5c-58d1-4fd2-9be6-c6f5e1d1a001"])
def test_ids_of_several_words_and_signs_are_found_in_a_line(user_id: str) -> None:
    assert ErasedUsers("salt").only(user_id).mentioned(f'7;"{user_id}";x')


def test_salts_keep_stores_apart_and_ids_are_written_as_tables_hold_them() -> None:
    assert ErasedUsers("a").only("u1").hashes != ErasedUsers("b").only("u1").hashes
    assert normalised(' ="00123" ', IdRule()) == "00123"
    assert normalised("17850.0", IdRule()) == normalised("1.785E4", IdRule()) == "17850"
    assert normalised("ab-x", IdRule(strip_suffix="-x", case="upper")) == "AB"


def test_timelines_of_customers_are_known_by_their_own_number() -> None:
    # Repeated where it is used, so that erasing needs no Spark.
    assert erasing_cuts._TIMELINE_OF_USER == timelines.USER
