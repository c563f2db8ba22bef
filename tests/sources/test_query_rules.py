"""A profile's query reads its tables: no file, no environment, no network, nothing else of the session."""

from __future__ import annotations

import http.server
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from loopback import listening
from shelfkin import sources
from shelfkin.errors import SourceError
from shelfkin.profile import Source, Sourced
from shelfkin.sources.query import run_query

pytestmark = pytest.mark.spark

AS_OF = date(2024, 6, 1)
CSV = "csv.`/etc/passwd`"
GETENV = "('java.lang.System', 'getenv', 'HOME')"
SCHEMA_FILE = "map('rowValidationXSDPath', 'http://127.0.0.1:1/schema.xsd')"


@pytest.fixture(scope="module")
def articles(spark: SparkSession) -> Iterator[DataFrame]:
    """One table that a query may read, beside two things of the same session that it may not."""
    spark.range(1).createOrReplaceTempView("other")
    spark.sql("DECLARE OR REPLACE VARIABLE kept STRING DEFAULT 'of somebody else'")
    yield spark.createDataFrame([("1", "Shirt", "2024-05-01")], "id string, name string, added string")
    spark.catalog.dropTempView("other")
    spark.sql("DROP TEMPORARY VARIABLE kept")


def run(articles: DataFrame, query: str) -> DataFrame:
    return run_query(articles.sparkSession, query, {"articles": articles}, AS_OF, "catalog.query")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        # Files, by whatever name and wherever a query may stand.
        (f"SELECT id\nFROM {CSV}", "line 2: there is no table csv./etc/passwd"),
        ("SELECT id FROM /* articles */ `PARQUET` . `/etc/passwd`", "there is no table PARQUET"),
        (f"TABLE {CSV}", "there is no table csv"),
        (f"FROM articles |> EXTEND (SELECT first(_c0) FROM {CSV}) AS x", "there is no table csv"),
        (f"WITH csv AS (SELECT 1) SELECT * FROM {CSV}", "there is no table csv"),
        (f"WITH a AS (WITH b AS (SELECT * FROM {CSV}) TABLE b) TABLE a", "there is no table csv"),
        (f"SELECT 1 AS a WHERE EXISTS (SELECT 1 FROM {CSV})", "there is no table csv"),
        (f"SELECT (SELECT first(_c0) FROM {CSV}) AS a", "there is no table csv"),
        (f"SELECT id FROM articles ORDER BY (SELECT first(_c0) FROM {CSV})", "there is no table csv"),
        (f"SELECT id FROM articles LIMIT (SELECT count(*) FROM {CSV})", "there is no table csv"),
        (f"SELECT count(*) AS a FROM articles GROUP BY (SELECT first(_c0) FROM {CSV})", "there is no table csv"),
        (f"SELECT transform(array(1), x -> (SELECT first(_c0) FROM {CSV})) AS a", "there is no table csv"),
        (f"SELECT * FROM explode((SELECT collect_list(_c0) FROM {CSV}))", "there is no table csv"),
        (f"SELECT * FROM articles, LATERAL (SELECT * FROM {CSV})", "there is no table csv"),
        (f"SELECT max(id) OVER w AS a FROM articles WINDOW w AS (ORDER BY (SELECT 1 FROM {CSV}))", "csv"),
        (f"SELECT * FROM IDENTIFIER('{CSV}')", "there is no table csv"),
        (f"SELECT * FROM IDENTIFIER('{CSV[:5]}' || '{CSV[5:]}')", "may only read; this is PLAN WITH UNRESOLVED"),
        ("SELECT * FROM read_files('/etc/passwd')", "read_files() may not be called as a table"),
        ("SELECT * FROM STREAM articles", "may only read; this is NAMED STREAMING RELATION"),
        ("SELECT * FROM articles VERSION AS OF 1", "may only read; this is RELATION TIME TRAVEL"),
        ("SELECT _metadata.file_path AS a FROM articles", "`_metadata`.`file_path` cannot be resolved"),
        ("SELECT input_file_name() AS a FROM articles", "input_file_name() may not be called"),
        (f"SELECT from_xml('<r/>', 'a STRING', {SCHEMA_FILE}) AS a", "at most 2 arguments"),
        (f"SELECT from_xml(xml => '<r/>', schema => 'a STRING', options => {SCHEMA_FILE}) AS a", "at most 2 arguments"),
        (f"SELECT schema_of_xml('<r/>', {SCHEMA_FILE}) AS a", "at most 1 argument"),
        ("SELECT from_avro(X'00', '{}', map('avroSchemaUrl', '/etc/passwd')) AS a", "from_avro() may not be called"),
        ("SELECT from_protobuf(X'00', 'M', '/etc/passwd') AS a", "from_protobuf() may not be called"),
        # The network.
        (
            "SELECT xpath_string('<!DOCTYPE r SYSTEM \"http://127.0.0.1:1/r.dtd\"><r/>', '/r') AS a",
            "xpath_string() may",
        ),
        ("SELECT * FROM articles LATERAL VIEW xpath('<r/>', '/r') t", "xpath() may not be called"),
        ("SELECT max(id) OVER w AS a FROM articles WINDOW w AS (ORDER BY xpath('<r/>', '/r'))", "xpath() may not be"),
        # The environment, and whatever else Java can do.
        (f"SELECT upper(\n reflect{GETENV}) AS a", "line 2: reflect() may not be called"),
        (f"SELECT system.builtin.`Java_Method`{GETENV} AS a", "java_method() may not be called"),
        (f"SELECT id FROM articles WHERE try_reflect{GETENV} = id", "try_reflect() may not be called"),
        (f"SELECT IDENTIFIER('refl' || 'ect'){GETENV} AS a", "IDENTIFIER() may not be called"),
        (f"SELECT * FROM articles LATERAL VIEW reflect{GETENV} t", "reflect() may not be called"),
        (f"SELECT max(id) OVER w AS a FROM articles WINDOW w AS (ORDER BY reflect{GETENV})", "may not be called"),
        ("SELECT current_user() AS a", "current_user() may not be called"),
        ("SELECT user AS a", "user() may not be called"),
        ("SELECT version() AS a", "version() may not be called"),
        ("SELECT * FROM python_worker_logs()", "python_worker_logs() may not be called"),
        # What others keep in the session and its catalogs.
        ("SELECT * FROM other", "there is no table other; tables are articles (id, name, added)"),
        ("SELECT * FROM system.session.other", "there is no table system.session.other"),
        ("SELECT * FROM spark_catalog.default.articles", "there is no table spark_catalog.default.articles"),
        ("WITH other AS (TABLE other) TABLE other", "there is no table other"),
        ("SELECT id FROM other WHERE EXISTS (WITH other AS (SELECT 1) TABLE other)", "there is no table other"),
        ("SELECT session.kept AS a", "a variable of the session may not be read"),
        ("SELECT session.upper('a') AS a", "there is no function session.upper()"),
        ("SELECT spark_catalog.default.upper('a') AS a", "there is no function spark_catalog.default.upper()"),
        # Anything but reading.
        ("DROP TABLE articles", "may only read"),
        ("INSERT INTO articles SELECT * FROM articles", "may only read; this is INSERT INTO"),
        ("INSERT OVERWRITE LOCAL DIRECTORY '/tmp/x' SELECT * FROM articles", "may only read; this is INSERT INTO DIR"),
        ("CREATE TABLE x AS SELECT * FROM articles", "may only read"),
        (f"CACHE TABLE x AS SELECT * FROM {CSV}", "may only read; this is CACHE TABLE"),
        ("CREATE TEMPORARY VIEW x USING csv OPTIONS (path '/etc/passwd')", "may only read; this is CREATE TEMP VIEW"),
        ("CREATE TEMPORARY FUNCTION f AS 'x.Y' USING JAR 'http://127.0.0.1:1/x.jar'", "this is CREATE FUNCTION"),
        ("ADD JAR 'http://127.0.0.1:1/x.jar'", "may only read; this is ADD JARS"),
        ("LOAD DATA LOCAL INPATH '/etc/passwd' INTO TABLE x", "may only read; this is LOAD DATA"),
        ("SET spark.sql.runSQLOnFiles = true", "may only read; this is SET"),
        ("SET VAR kept = 'x'", "may only read; this is SET VARIABLE"),
        (f"EXECUTE IMMEDIATE 'SELECT * FROM {CSV}'", "may only read; this is EXECUTE IMMEDIATE"),
        (f"BEGIN SELECT * FROM {CSV}; END", "may only read; this is COMPOUND BODY"),
        ("SELECT TRANSFORM(id) USING 'cat /etc/passwd' AS (id) FROM articles", "this is SCRIPT TRANSFORMATION"),
        ("FROM articles REDUCE id USING 'cat /etc/passwd' AS id", "this is SCRIPT TRANSFORMATION"),
        ("SHOW TABLES", "may only read"),
        ("EXPLAIN SELECT 1", "may only read"),
        ("SELECT 1 AS id; SELECT 2 AS id", "line 1"),
        # What differs from run to run.
        ("SELECT id FROM articles WHERE added < current_date", "current_date() differs from run to run; :as_of is"),
        ("SELECT id FROM articles ORDER BY rand()", "rand() differs from run to run"),
        ("SELECT unix_timestamp() AS a", "current_timestamp() differs from run to run"),
    ],
)
def test_what_a_query_may_not_do(articles: DataFrame, query: str, said: str) -> None:
    with pytest.raises(SourceError) as error:
        run(articles, query)
    assert error.value.message.startswith("catalog.query")
    assert said in error.value.message


def test_variables_in_a_query_stay_as_they_are_written(articles: DataFrame) -> None:
    texts = ["${env:HOME}", "${system:user.home}", "${spark.app.name}", "${hiveconf:spark.app.name}"]
    columns = ", ".join(f"'{text}' AS c{place}" for place, text in enumerate(texts))
    assert list(run(articles, f"SELECT {columns} /* ${{env:HOME}} */").collect()[0]) == texts


def test_functions_that_read_their_arguments_alone_may_be_called(articles: DataFrame) -> None:
    query = """
        SELECT system.builtin.upper(name), trim(BOTH 'S' FROM name), extract(YEAR FROM DATE'2024-05-01'), id::int,
          unix_timestamp('1970-01-01 00:01:00'), aggregate(array(1, 2), 0, (x, y) -> x + y), uuid, user,
          parse_json('{"a": 7}'):a::int, from_xml('<r><a>1</a></r>', 'a STRING').a, n, b,
          lag(id, 1, 'none') OVER (PARTITION BY name ORDER BY id)
        FROM (SELECT *, id AS uuid, name AS user FROM articles) JOIN VALUES (1, 'x') AS pairs(a, b)
        LATERAL VIEW OUTER posexplode(split(added, '-')) parts AS n, part
        WHERE n = 1
    """
    names = ", ".join(f"c{place}" for place in range(13))
    row = run(articles, f"WITH found({names}) AS ({query}) SELECT * FROM found").collect()[0]
    assert list(row) == ["SHIRT", "hirt", 2024, 1, 60, 3, "1", "Shirt", 7, "1", 1, "x", "none"]


class _Asked(http.server.BaseHTTPRequestHandler):
    paths: list[str] = []  # noqa: RUF012 - of the class, because each request has a handler of its own

    def do_GET(self) -> None:
        self.paths.append(self.path)
        self.send_error(404)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def test_xml_names_no_file_and_no_address_that_is_read(
    spark: SparkSession, tmp_path: Path, articles: DataFrame
) -> None:
    (tmp_path / "secret.txt").write_text("PLANTED")
    entities = f'<!ENTITY f SYSTEM "file://{tmp_path}/secret.txt">'
    with listening(_Asked) as url:
        entities += f'<!ENTITY u SYSTEM "{url}/entity"><!ENTITY % p SYSTEM "{url}/parameter"> %p;'
        text = f'<!DOCTYPE s SYSTEM "{url}/dtd" [{entities}]><s><p><t>mug</t></p><p><t>&f;&u;</t></p></s>'
        (tmp_path / "feed.xml").write_text(text)
        section = Sourced(source=Source(path=f"{tmp_path}/feed.xml", format="xml", options={"rowTag": "p"}))
        raw = sources.read_rows(spark, section, "catalog", {}, str, AS_OF)
        shown = str(raw.frame.collect()) + str(run(articles, f"SELECT from_xml('{text}', 'p STRING') AS a").collect())
    assert "mug" in shown and "PLANTED" not in shown
    assert _Asked.paths == []
