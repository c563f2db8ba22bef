"""Cleaning of catalogues, and the proof that a new shop is one YAML file."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812

from shelfkin import sources
from shelfkin.app import app_of, parse_as_of
from shelfkin.artifacts import Manifest, Root, RunPaths, check_reconciled
from shelfkin.catalog import categories, clean, text
from shelfkin.events import clean as events_clean
from shelfkin.profile import StoreProfile

pytestmark = pytest.mark.spark

CUTOFF = datetime(2020, 2, 1, tzinfo=UTC)


def parse(spark: SparkSession, tmp_path: Path, content: str, fields: dict[str, Any], **catalog: Any) -> Any:
    path = tmp_path / "p.csv"
    path.write_text(content, encoding="utf-8")
    section = {"kind": "snapshot", "source": {"path": str(path)}, "fields": fields, **catalog}
    profile = StoreProfile.model_validate({"store": "s", "title": "S", "currency": "EUR", "catalog": section})
    raw = sources.read_rows(spark, profile.catalog, "catalog", clean.wanted_columns(profile), str, CUTOFF.date())
    return clean.parse_catalog(raw, profile, CUTOFF)


def test_newest_duplicate_wins_and_ties_do_not_depend_on_row_order(spark: SparkSession, tmp_path: Path) -> None:
    lines = ["1,Old,2020-01-01", "1,New,2020-01-03", "1,Undated,", "2,b,2020-01-01", "2,a,2020-01-01", "3,x,", "3,x,"]
    fields = {"product_id": "id", "title": "t", "updated_at": "u"}
    for order in (lines, lines[::-1]):
        parsed = parse(spark, tmp_path, "id,t,u\n" + "\n".join(order) + "\n", fields)
        rows = clean.newest_versions(parsed, CUTOFF).select("product_id", "title").collect()
        assert sorted(map(tuple, rows)) == [("1", "New"), ("2", "a"), ("3", "x")]


def test_a_version_updated_after_the_date_wins_over_none_that_was_known(spark: SparkSession, tmp_path: Path) -> None:
    lines = ["1,Known,2020-01-31", "1,Later,2020-02-01", "2,Undated,", "2,Later,2020-03-01", "3,Only later,2020-03-01"]
    parsed = parse(
        spark,
        tmp_path,
        "id,t,u\n" + "\n".join(lines) + "\n",
        {"product_id": "id", "title": "t", "updated_at": "u"},
    )
    rows = clean.newest_versions(parsed, CUTOFF).select("product_id", "title").collect()
    assert sorted(map(tuple, rows)) == [("1", "Known"), ("2", "Undated"), ("3", "Only later")]


def test_fields_reasons_and_raw_rows(spark: SparkSession, tmp_path: Path) -> None:
    content = (
        "id,t,d,c,p,s\n"
        'A1,KIDS CEREAL,"<p>Crunchy &amp; sweet</p>",Food > Breakfast,"$1,299.00",in stock\n'
        'A2,CafÃ© crème,,"[""Food"", ""Coffee""]",cheap,0\n'
        "A3,   ,x,,,\n"
        "B4,Wrong id,x,,,\n"
        ",No id,x,,,\n"
        f"A5,{'long ' * 30},x,,,\n"
        "A6,TEST do not sell,x,,,\n"
        f"A7,Good,{'word ' * 30},a|b,,maybe\n"
    )
    fields = {"product_id": "id", "title": "t", "description": "d", "category_path": "c", "price": "p", "in_stock": "s"}
    options = {
        "product_id": {"pattern": r"A\d"},
        "not_a_product": "^TEST",
        "fold_shouting": True,
        "max_text_chars": 100,
    }
    rows = {row["product_id"]: row for row in parse(spark, tmp_path, content, fields, **options).collect()}
    assert {key: row["reason"] for key, row in rows.items()} == {
        **{"A1": None, "A2": None, "A7": None, "A3": "empty_title", "B4": "not_a_product_id"},
        **{None: "missing_product_id", "A5": "oversize_title", "A6": "not_a_product"},
    }
    first, second, last = rows["A1"], rows["A2"], rows["A7"]
    assert (first["title"], first["description"]) == ("Kids cereal", "Crunchy & sweet")
    assert (first["category_path"], first["price"], first["currency"]) == (["Food", "Breakfast"], 1299.0, "USD")
    assert (first["in_stock"], second["in_stock"], last["in_stock"]) == (True, False, None)
    assert (second["title"], second["category_path"]) == ("Café crème", ["Food", "Coffee"])
    assert (second["price"], second["unread_price"], second["currency"]) == (None, "cheap", None)
    assert (first["unread_price"], last["unread_in_stock"]) == (None, "maybe")
    assert last["description_cut"] and len(last["description"]) <= 100 and last["description"].endswith("word")
    assert json.loads(rows["B4"]["raw"])["t"] == "Wrong id"


@pytest.mark.parametrize(
    ("written", "levels"),
    [
        ("A > B > C", ["A", "B", "C"]),
        ("A/B", ["A", "B"]),
        ("Food/Drink > Tea", ["Food/Drink", "Tea"]),
        ("A|B", ["A", "B"]),
        ("A::B", ["A", "B"]),
        ('["A", "B/C"]', ["A", "B/C"]),
        (" > A >  > ", ["A"]),
        ("[sale] A", ["[sale] A"]),
        (None, None),
    ],
)
def test_category_paths(spark: SparkSession, written: str | None, levels: list[str] | None) -> None:
    frame = spark.createDataFrame([(written,)], "c string")
    paths = categories.split_categories(F.col("c"), None, ";")
    row = frame.select(categories.main_path(paths), categories.others(paths)).head()
    assert row is not None
    assert list(row) == [levels, None]


def test_parallel_categories(spark: SparkSession, tmp_path: Path) -> None:
    content = (
        "id,t,c\n"
        "1,Lamp,Sale; Home > Light > Lamps;Home > Gifts\n"
        "2,Cup,Kitchen;NULL; ;\n"
        "3,Tea,Food/Tea\n"
        "4,Fee,Fees;Home > Light\n"
        "5,Hat,Sale;New\n"
    )
    fields = {"product_id": "id", "title": "t", "category_path": "c"}
    parsed = parse(spark, tmp_path, content, fields, not_a_product_category="^Fees$")
    rows = {row["product_id"]: row for row in parsed.collect()}
    assert {key: (row["category_path"], row["other_categories"]) for key, row in rows.items()} == {
        "1": (["Home", "Light", "Lamps"], ["Sale", "Home > Gifts"]),  # the path with the most levels stands first
        "2": (["Kitchen"], None),
        "3": (["Food", "Tea"], None),
        "4": (["Home", "Light"], ["Fees"]),
        "5": (["Sale"], ["New"]),
    }
    assert {key for key, row in rows.items() if row["reason"]} == {"4"}
    one = parse(spark, tmp_path, "id,t,c\n1,Nut,Nuts; Bolts\n", fields, parallel_separator=None).head()
    assert one["category_path"] == ["Nuts; Bolts"]
    levels = parse(spark, tmp_path, "id,t,c\n1,Nut,Iron;Nuts\n", fields, category_separator=";").head()
    assert levels["category_path"] == ["Iron", "Nuts"]


def test_a_shop_without_titles_and_columns_of_its_own(spark: SparkSession, tmp_path: Path) -> None:
    content = "id,b,c,col\n1,Acme,Shoes > Boots,red\n2,no brand,Shoes,\n3,Unbranded,,blue\n4,NULL,N/A,-\n"
    fields = {"product_id": "id", "brand": "b", "category_path": "c", "extra": {"colour": "col"}}
    path = tmp_path / "p.csv"
    path.write_text(content, encoding="utf-8")
    catalog = {"kind": "snapshot", "source": {"path": str(path)}, "fields": fields}
    recipe = "{brand}| {category}|, {colour}"
    profile = StoreProfile.model_validate(
        {"store": "s", "title": "S", "catalog": catalog, "embedding": {"text": recipe}}
    )
    raw = sources.read_rows(spark, profile.catalog, "catalog", clean.wanted_columns(profile), str, date(2024, 1, 1))
    parsed = clean.parse_catalog(raw, profile, CUTOFF)
    products = clean.with_embedding_text(clean.newest_versions(parsed, CUTOFF), recipe)
    rows = {row["product_id"]: row for row in products.collect()}
    assert {key: (row["title"], row["brand"]) for key, row in rows.items()} == {
        "1": ("Acme Boots, red", "Acme"),
        "2": ("Shoes", None),
        "3": (", blue", None),
    }
    assert all(row["embedding_text"] == row["title"] for row in rows.values())
    assert not [name for name in products.columns if name.startswith("extra_")]
    assert [row["reason"] for row in parsed.where("reason IS NOT NULL").collect()] == ["empty_title"]


def test_own_lists_of_words(spark: SparkSession, tmp_path: Path) -> None:
    fields = {"product_id": "id", "title": "t", "brand": "b"}
    rows = parse(
        spark, tmp_path, "id,t,b\n1,Cup,House\n2,Tea,generic\n", fields, placeholder_brands=["house"]
    ).collect()
    assert {row["product_id"]: row["brand"] for row in rows} == {"1": None, "2": "generic"}


def test_times_of_versions(spark: SparkSession, tmp_path: Path) -> None:
    fields = {"product_id": "id", "title": "t", "updated_at": "u"}
    content = "id,t,u\n1,A,31/01/2020 09:00\n1,B,01/02/2019 10:00\n1,C,soon\n"
    unread = {row["title"]: row["unread_updated_at"] for row in parse(spark, tmp_path, content, fields).collect()}
    assert unread == {"A": "31/01/2020 09:00", "B": "01/02/2019 10:00", "C": "soon"}
    parsed = parse(spark, tmp_path, content, fields, timestamp_format="dd/MM/yyyy HH:mm")
    newest = clean.newest_versions(parsed, CUTOFF).head()
    assert newest is not None and newest["title"] == "A"
    assert [row["unread_updated_at"] for row in parsed.orderBy("title").collect()] == [None, None, "soon"]


def test_ids_too_long_are_turned_away(spark: SparkSession, tmp_path: Path) -> None:
    lines = [f"{'7' * length},Cup" for length in (255, 256, 3000)]
    rows = parse(spark, tmp_path, "id,t\n" + "\n".join(lines) + "\n", {"product_id": "id", "title": "t"}).collect()
    assert sorted((len(row["product_id"]), row["reason"]) for row in rows if row["reason"]) == [
        (256, "product_id_too_long"),
        (3000, "product_id_too_long"),
    ]


def test_embedding_text_leaves_out_pieces_with_an_empty_field(spark: SparkSession) -> None:
    schema = "title string, description string, brand string, category_path array<string>"
    frame = spark.createDataFrame([("T", None, "B", ["X", "Y"]), ("T", "D", None, None)], schema)
    recipe = "{title}|. {description}| by {brand}| ({category_path}; {category})"
    rows = clean.with_embedding_text(frame, recipe).collect()
    assert [row["embedding_text"] for row in rows] == ["T by B (X > Y; Y)", "T. D"]
    assert len(rows[0]["text_hash"]) == 64


def test_clean_texts_never_sends_plain_text_to_python(spark: SparkSession) -> None:
    frame = spark.createDataFrame([("plain  text ",), ("<b>x</b>",), ("  ",), (None,)], "t string")
    rows = [row["t"] for row in text.clean_texts(frame, ["t"]).collect()]
    assert rows == ["plain text", "x", None, None]


SHOP = """
store: kaesladen
title: Käseladen
timezone: Europe/Berlin
currency: EUR
catalog:
  kind: events
  fields: {product_id: ArtNr, title: Bezeichnung}
  product_id: {pattern: 'K\\d+', case: upper}
events:
  source:
    path: verkauf-*.csv.gz
    separator: ";"
    encoding: latin-1
    header: false
    columns: [Beleg, ArtNr, Bezeichnung, Menge, Zeit, Preis, Kunde]
    decimal_mark: ","
  fields: {user_id: Kunde, product_id: ArtNr, occurred_at: Zeit, quantity: Menge, order_id: Beleg, price: Preis}
  timestamp_format: dd.MM.yyyy HH:mm
  cancellations: {order_id_pattern: ^S}
  max_quarantined_share: 0.5
max_staleness_days: 30
"""
LINES = [
    "1;k1;Käse alt;1,5;01.03.2024 00:30;12,90;A",  # 29 February, 23:30 UTC
    "2;K1;Bergkäse;1;02.03.2024 10:00;1.012,90;B",
    "2;K1;Bergkäse;1;02.03.2024 10:00;1.012,90;B",
    "3;K2;Brie;2;03.03.2024 10:00;3,00;A",
    "S4;K2;Brie;-2;04.03.2024 10:00;3,00;A",
    "5;Pfand;Leergut;1;04.03.2024 10:00;0,25;A",
    "6;K1;Preis später;1;06.03.2024 10:00;99,00;A",  # later than as_of: leaves no trace
]


def run_app(name: str, tmp_path: Path, as_of: str) -> tuple[Root, dict[str, Any]]:
    """Run one app in this process, with the shared session; return its manifest or its error."""
    flags = ["--store", "kaesladen", "--stores-dir", str(tmp_path), "--artifact-root", str(tmp_path / "art")]
    flags += ["--as-of", as_of, "--run-id", "t"]
    root = Root.at(str(tmp_path / "art"))
    paths = RunPaths(root, "kaesladen", parse_as_of(as_of), "t")
    try:
        app_of(name).main(flags)
    except SystemExit:
        return root, root.read_json(paths.error_uri(name))
    return root, Manifest.read(root, paths.manifest_uri(name)).content


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "kaesladen.yaml").write_text(SHOP, encoding="utf-8")
    (tmp_path / "verkauf-1.csv.gz").write_bytes(gzip.compress("\n".join(LINES).encode("latin-1")))
    return tmp_path


def test_a_new_shop_needs_no_python(spark: SparkSession, shop: Path) -> None:
    root, catalog = run_app("clean_catalog", shop, "2024-03-05")
    products = spark.read.parquet(root.join(catalog["tables"]["products"]["path"])).orderBy("product_id").collect()
    assert [(row["product_id"], row["title"], row["price"]) for row in products] == [
        ("K1", "Bergkäse", 1012.9),
        ("K2", "Brie", 3.0),
    ]
    counts = {key: value for key, value in catalog["counts"].items() if key not in ("quarantined_by_reason", "ignored")}
    assert counts == {"rows_in": 7, "kept": 2, "quarantined": 1, "merged": 3, "netted": 0, "after_as_of": 1}

    root, events = run_app("clean_events", shop, "2024-03-05")
    at = F.date_format("occurred_at", "yyyy-MM-dd HH:mm").alias("at")
    table = spark.read.parquet(root.join(events["tables"]["events"]["path"]))
    rows = table.select("user_id", "product_id", at, "quantity", "order_id").orderBy("at").collect()
    assert [tuple(row) for row in rows] == [
        ("A", "K1", "2024-02-29 23:30", 1.5, "1"),
        ("B", "K1", "2024-03-02 09:00", 1.0, "2"),
    ]
    check_reconciled("clean_events", events["counts"])
    counts = {key: value for key, value in events["counts"].items() if key not in ("quarantined_by_reason", "ignored")}
    assert counts == {"rows_in": 7, "kept": 2, "quarantined": 1, "merged": 1, "netted": 2, "after_as_of": 1}
    assert events["counts"]["quarantined_by_reason"] == {"not_a_product_id": 1}


@pytest.mark.parametrize(
    ("as_of", "kind", "message", "next_step"),
    [
        ("2024-02-01", "data_quality", "no event before as_of 2024-02-01; the first one happened at 2024-02-29 23:30",
         "from 2024-03-01 on"),
        ("2025-01-01", "stale_data", "max_staleness_days of store kaesladen is 30", "as of 2024-03-07"),
    ],
)  # fmt: skip
def test_wrong_days_are_named_with_the_right_ones(
    spark: SparkSession, shop: Path, as_of: str, kind: str, message: str, next_step: str
) -> None:
    _, error = run_app("clean_events", shop, as_of)
    assert (error["kind"], error["retryable"]) == (kind, False)
    assert message in error["message"]
    assert next_step in error["next_step"]


def test_a_row_lost_on_the_way_fails_the_stage(
    spark: SparkSession, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle = events_clean.settle

    def lossy(*arguments: Any) -> events_clean.Settled:
        settled = settle(*arguments)
        return replace(settled, events=settled.events.where("order_id <> '2'"))

    products = clean.from_order_lines
    monkeypatch.setattr(events_clean, "settle", lossy)
    monkeypatch.setattr(clean, "from_order_lines", lambda parsed: products(parsed).where("product_id <> 'K2'"))
    for app in ("clean_events", "clean_catalog"):
        _, error = run_app(app, shop, "2024-03-05")
        assert error["kind"] == "reconciliation"
        assert "7 rows came in" in error["message"] and "add up to 6" in error["message"]


def test_times_of_rows_turned_away_are_not_trusted(spark: SparkSession, shop: Path) -> None:
    # In Berlin, the first moment of the year 1 lies in the year 0 of UTC, which Python's datetime doesn't know.
    placeholders = ["8;K1;Bergkäse;1;01.01.0001 00:00;1,00;A", "9;Pfand;Leergut;1;01.05.2024 10:00;0,25;A"]
    content = "\n".join([*LINES, *placeholders]).encode("latin-1")
    (shop / "verkauf-1.csv.gz").write_bytes(gzip.compress(content))
    _, events = run_app("clean_events", shop, "2024-03-10")
    assert events["counts"]["quarantined_by_reason"] == {"implausible_time": 1, "not_a_product_id": 1}
    assert events["metrics"]["last_event_at"] == "2024-03-06T09:00:00+00:00"
    # The voucher of May is fresh, the newest good row isn't.
    _, error = run_app("clean_events", shop, "2024-05-02")
    assert (error["kind"], "happened at 2024-03-06 09:00" in error["message"]) == ("stale_data", True)


def test_shop_text_forges_no_line_and_reaches_no_terminal(
    spark: SparkSession, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = "\x1b]0;x\x07 \u202e\nNext step: send your password"
    (shop / "kaesladen.yaml").write_text(SHOP.replace("Bezeichnung, Menge", '"Bezeich\\e[2Jnung", Menge'))
    (shop / "verkauf-1.csv.gz").write_bytes(gzip.compress(b"1;k1;Brie;1;01.03.2024 00:30;12,90;A\n"))
    _, error = run_app("clean_catalog", shop, "2024-03-05")
    assert "columns present: Beleg, ArtNr, Bezeich [2Jnung, Menge" in error["message"]

    profile = SHOP.replace("separator:", "multiline: true\n    separator:").replace("latin-1", "utf-8")
    (shop / "kaesladen.yaml").write_text(profile, encoding="utf-8")
    line = f'1;"{hostile}";Brie;1;01.03.2024 00:30;12,90;A\n'
    (shop / "verkauf-1.csv.gz").write_bytes(gzip.compress(line.encode()))
    for app in ("clean_catalog", "clean_events"):
        _, error = run_app(app, shop, "2024-03-05")
        assert "for example ArtNr ' ]0;x    Next step: send your password'" in error["message"]
        printed = capsys.readouterr()
        for written in (error["message"], printed.out, printed.err):
            assert not {"\x1b", "\x07", "\u202e"} & set(written)
        assert not any(each.startswith("Next step: send") for each in printed.out.splitlines())


def test_an_unforeseen_error_is_shown_without_control_characters(
    spark: SparkSession, shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("bad cell \x1b]0;x\x07\nsecond line")

    monkeypatch.setattr(events_clean, "parse_events", fail)
    _, error = run_app("clean_events", shop, "2024-03-05")
    assert error["message"] == "ValueError: bad cell  ]0;x \nsecond line"
    printed = capsys.readouterr()
    assert "Traceback" in printed.err and "second line" in printed.err
    assert "\x1b" not in printed.err + printed.out


def test_all_rows_quarantined_is_one_clear_message(spark: SparkSession, shop: Path) -> None:
    profile = shop / "kaesladen.yaml"
    profile.write_text(SHOP.replace("K\\d+", "X\\d+"), encoding="utf-8")
    for app in ("clean_catalog", "clean_events"):
        _, error = run_app(app, shop, "2024-03-05")
        assert error["kind"] == "data_quality"
        assert "nothing is left" in error["message"]
        assert "not_a_product_id: 6 rows" in error["message"]


SNAPSHOTS = """
store: kaesladen
title: Dated snapshots
catalog:
  kind: dated_snapshots
  source: {path: "cat-{snapshot_date}-r{revision}.csv"}
  fields: {product_id: id, title: name}
"""


def test_a_run_reads_the_newest_revision_known_before_its_date(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "kaesladen.yaml").write_text(SNAPSHOTS, encoding="utf-8")
    for name, title in (("2024-03-04-r1", "Typo"), ("2024-03-04-r2", "Fixed"), ("2024-03-05-r0", "Planted later")):
        (tmp_path / f"cat-{name}.csv").write_text(f"id,name\n1,{title}\n", encoding="utf-8")
    root, catalog = run_app("clean_catalog", tmp_path, "2024-03-05")
    products = spark.read.parquet(root.join(catalog["tables"]["products"]["path"])).collect()
    assert [row["title"] for row in products] == ["Fixed"]
    assert (catalog["metrics"]["snapshot_date"], catalog["metrics"]["revision"]) == ("2024-03-04", 2)
    assert catalog["metrics"]["point_in_time"] is True

    root, events = run_app("clean_events", tmp_path, "2024-03-05")
    assert events["tables"]["events"]["rows"] == 0
    assert "no events" in events["metrics"]["skipped_reason"]

    _, error = run_app("clean_catalog", tmp_path, "2024-03-01")
    assert error["kind"] == "source"
    assert "oldest of 3 is of 2024-03-04" in error["message"]
