"""One file of a shop, opened without a profile: what it is written in, and its columns as text in DuckDB.

What is looked at is a sample (`SAMPLE_ROWS` rows of the first `MAX_BYTES` of the file); nothing of it is changed.
"""

from __future__ import annotations

import codecs
import gzip
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from os.path import commonprefix
from pathlib import Path
from typing import IO, Any
from xml.etree import ElementTree

import duckdb
import orjson
from charset_normalizer import from_bytes

from shelfkin.drafting.field_names import FIELDS, name_score, word_list
from shelfkin.errors import SourceError

MAX_BYTES = 256 << 20
SAMPLE_ROWS = 20_000
_BOMS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

# Numbers and dates stay the text that they are written in: "00123", 1.10.
_JSON = (
    "auto_detect=true, convert_strings_to_integers=false, dateformat='@%Y', timestampformat='@%Y', "
    f"map_inference_threshold=-1, maximum_object_size={MAX_BYTES}, union_by_name=true"
)


@dataclass
class ShopFile:
    """One file, or several of one shape, as DuckDB sees them.

    Attributes
    ----------
    path
        As a profile names it; may hold a glob.
    name
        A word for it in SQL, also the DuckDB table of its rows: every column is text, nested ones are flattened to
        dotted names.
    source
        Keys of a profile's source that differ from their defaults.
    expressions
        Spark SQL of each column, by name.
    unnested, unnested_spark
        The list column of which each entry became a row, and it in Spark SQL; None for flat files.
    saw, unsure
        Sentences for the draft's comments.
    """

    path: str
    name: str
    source: dict[str, Any] = field(default_factory=dict)
    expressions: dict[str, str] = field(default_factory=dict)
    unnested: str | None = None
    unnested_spark: str = ""
    rows: int = 0
    saw: list[str] = field(default_factory=list)
    unsure: list[str] = field(default_factory=list)

    @property
    def nested(self) -> bool:
        """Whether its columns must be picked out by a query."""
        return self.unnested is not None or any(
            expression != quoted(name) for name, expression in self.expressions.items()
        )


def quoted(name: str) -> str:
    """Return a column's name in Spark SQL."""
    return "`" + name.replace("`", "``") + "`"


def literal(value: str) -> str:
    """Return a text in Spark SQL."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def ident(name: str) -> str:
    """Return a column's name in DuckDB's SQL."""
    return '"' + name.replace('"', '""') + '"'


def open_file(
    session: duckdb.DuckDBPyConnection, paths: list[Path], name: str, folder: Path, others: bytes = b""
) -> ShopFile:
    """Read files of one shape into a DuckDB table, and say what they are written in.

    Parameters
    ----------
    paths
        One file, or several with the same columns.
    name
        Name of the table.
    folder
        Where working copies may be put.
    others
        Lines of the shop's other files that aren't UTF-8 (`strange_lines`).

    Raises
    ------
    SourceError
        A file is empty, or nothing reads it.
    """
    found = ShopFile(common_path(paths), name)
    path = paths[0]
    kind = _format(path)
    in_parts = f"hive_partitioning={'true' if Path(found.path).is_dir() else 'false'}"
    if kind != "csv":
        found.source["format"] = kind
    try:
        if kind == "parquet":
            rows = f"read_parquet({_listed(paths)}, union_by_name=true, {in_parts})"
        elif kind == "orc":
            session.register("orc_rows", _orc(path))
            rows = "orc_rows"
        elif kind == "xml":
            rows = f"read_json({_listed([_xml_rows(path, folder, found)])}, {_JSON})"
        elif kind in ("json", "jsonl"):
            rows = (
                f"read_json({_listed([_as_utf8(each, folder, found, others) for each in paths])}, {_JSON}, {in_parts})"
            )
        else:
            rows = _csv_rows(session, [_as_utf8(each, folder, found, others) for each in paths], found, in_parts)
        session.execute(f"CREATE OR REPLACE TABLE opened AS SELECT * FROM {rows}")
    except (duckdb.Error, UnicodeError, OSError, ElementTree.ParseError) as error:
        raise SourceError(
            f"{path} can't be read as {kind}: {str(error).splitlines()[0][:200]}",
            next_step="Open the file, and describe it by hand; include/stores/examples shows how.",
        ) from error
    _flatten(session, found)
    session.execute("DROP TABLE opened")
    found.rows = _one(session, f"SELECT count(*) FROM {ident(name)}")
    if found.rows == 0:
        raise SourceError(f"{path} holds no row.", next_step="Export the file again and check its size.")
    return found


def common_path(paths: list[Path]) -> str:
    """Return the one path of files, with a glob in each part of it in which their names differ.

    >>> common_path([Path("/x/day=1/a.csv"), Path("/x/day=2/a.csv")])
    '/x/day=*/a.csv'
    """
    folder = _folder_of_parts(paths)
    if folder:
        return str(folder)
    return str(Path(*[_common_name(list(parts)) for parts in zip(*[path.parts for path in paths], strict=True)]))


def _folder_of_parts(paths: list[Path]) -> Path | None:
    """Return the folder of files that lie in folders such as day=2024-05-01, if it holds no others.

    Read as a whole, it has the column `day`; its files one by one haven't.
    """
    named = [position for position, part in enumerate(paths[0].parts[:-1]) if re.match(r"\w+=", part)]
    if not named:
        return None
    folder = Path(*paths[0].parts[: named[0]])
    held = {each for each in folder.rglob("*") if each.is_file() and not each.name.startswith((".", "_"))}
    return folder if held == set(paths) else None


def _common_name(names: list[str]) -> str:
    if len(set(names)) == 1:
        return names[0]
    # Of names, not of paths, so that letter by letter is right.
    begin = commonprefix(names)  # noqa: RUF071
    end = commonprefix([name[len(begin) :][::-1] for name in names])[::-1]  # noqa: RUF071
    return f"{begin}*{end}"


def _one(session: duckdb.DuckDBPyConnection, sql: str) -> Any:
    row = session.execute(sql).fetchone()
    return None if row is None else row[0]


def _unpacked(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _format(path: Path) -> str:
    """Return the format by a file's first bytes, whatever its name says."""
    with _unpacked(path) as file:
        start = file.read(1 << 16)
    if not start.strip():
        raise SourceError(f"{path} is empty.", next_step="Export the file again and check its size.")
    if start.startswith(b"PAR1"):
        return "parquet"
    if start.startswith(b"ORC"):
        return "orc"
    if start.startswith(b"PK"):
        raise SourceError(f"{path} is a ZIP or Excel file.", next_step="Unpack it, or save the sheet as CSV.")
    text = start.decode(_bom(start) or "latin-1", errors="ignore").lstrip("\ufeff ï»¿\r\n\t")
    if re.match(r"<\?xml|<[A-Za-z][\w:.-]*[\s>]", text):
        return "xml"
    if text.startswith("["):
        return "json"
    if text.startswith("{"):
        first = text.splitlines()[0]
        return "jsonl" if _is_json(first) or len(first) > 60_000 else "json"
    return "csv"


def _is_json(line: str) -> bool:
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False


def _bom(start: bytes) -> str | None:
    return next((name for mark, name in _BOMS.items() if start.startswith(mark)), None)


def strange_lines(path: Path) -> bytes:
    """Return lines that aren't ASCII of the first megabyte of a file; none of a file in UTF-8 or UTF-16."""
    with _unpacked(path) as file:
        start = file.read(1 << 20)
    lines = b"\n".join(line for line in start.splitlines() if not line.isascii())
    if _bom(start) or b"\0" in start:
        return b""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(lines)
        return b""
    except UnicodeDecodeError:
        return _whole_lines(lines, 50 << 10)


def _whole_lines(lines: bytes, limit: int) -> bytes:
    """Return the first lines, none of them cut: half a letter can't be read in any encoding."""
    return lines if len(lines) <= limit else lines[:limit].rpartition(b"\n")[0] or lines[:limit]


def find_encoding(blocks: Iterable[bytes], others: bytes = b"") -> tuple[str, str | None]:
    """Return the encoding of a file by blocks of its bytes, and what is unsure about it.

    `others` are lines of the shop's other files: a shop's programs mostly write in one encoding.
    """
    remaining = iter(blocks)
    start = next(remaining, b"")
    marked = _bom(start)
    if marked:
        return marked, None
    zeros = start.count(b"\0")
    if zeros > len(start) / 5:
        return ("utf-16-le" if start[1::2].count(0) > start[::2].count(0) else "utf-16-be"), None
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for block in chain([start], remaining):
            decoder.decode(block)
        return "utf-8", None
    except UnicodeDecodeError:
        pass  # `block` is the one that isn't UTF-8
    strange = _whole_lines(b"\n".join(line for line in block.splitlines() if not line.isascii()), 200 << 10)
    encoding = _likeliest(strange + b"\n" + others)
    read = re.findall(r"[^\W\d_]{3,}", strange.decode(encoding, errors="replace"))
    words = list(dict.fromkeys(word for word in read if not word.isascii()))
    return encoding, f"encoding: {encoding} is a guess, after words such as {', '.join(words[:4])}"


def _sensible(before: str, letter: str, after: str) -> bool:
    """Return whether a letter or sign may stand there: no sign inside a word, no letter before a figure."""
    if letter.isalpha():
        return not after.isdigit()
    if letter in "¿¡":
        return not before.isalpha()
    return letter not in "£³¹²½¼±·" or not (before.isalpha() or after.isalpha())


def _likeliest(strange: bytes) -> str:
    """Return the encoding in which text that isn't UTF-8 makes most sense."""
    known = word_list("encodings")
    shares: dict[str, float] = {}
    for encoding, letters in known["letters"].items():
        text = f" {strange.decode(encoding, errors='replace')} "
        read = [text[i - 1 : i + 2] for i, letter in enumerate(text) if not letter.isascii()]
        shares[encoding] = sum(three[1] in letters and _sensible(*three) for three in read) / len(read)
    best = max(shares, key=lambda encoding: shares[encoding])
    if shares[best] >= 0.9:
        return best
    guess = from_bytes(strange, cp_isolation=known["others"]["names"], threshold=0.5).best()
    return guess.encoding if guess else best


def _as_utf8(path: Path, folder: Path, found: ShopFile, others: bytes) -> Path:
    """Return a file that DuckDB can read: itself, or a copy as UTF-8 (of its first bytes, if it is large)."""
    with _unpacked(path) as file:
        encoding, doubt = find_encoding(islice(iter(lambda: file.read(8 << 20), b""), MAX_BYTES >> 23), others)
    if encoding != "utf-8":
        found.source["encoding"] = encoding
    if doubt and not any(each.startswith(doubt.partition(",")[0]) for each in found.unsure):
        found.unsure.append(doubt)
    if encoding == "utf-8" and path.stat().st_size <= MAX_BYTES:
        return path
    handle, name = tempfile.mkstemp(suffix=".txt", dir=folder)
    with _unpacked(path) as file, open(handle, "w", encoding="utf-8", newline="") as copy:  # noqa: PTH123
        reader = codecs.getreader(encoding)(file, "replace")
        for block in iter(lambda: reader.read(1 << 20), ""):
            copy.write(block)
            if copy.tell() > MAX_BYTES:
                found.saw.append(f"only the first {MAX_BYTES >> 20} MB were looked at")
                break
    return Path(name)


def _orc(path: Path) -> Any:
    from pyarrow import orc

    return orc.ORCFile(str(path)).read()


def _xml_rows(path: Path, folder: Path, found: ShopFile) -> Path:
    """Write the repeated element of an XML file as JSON lines; its name becomes `row_tag`."""
    row_tag, lists = _xml_shape(path)
    found.source["options"] = {"rowTag": _local(row_tag)}
    rows = folder / f"{found.name}.jsonl"
    with _unpacked(path) as file, rows.open("wb") as out:
        for _, element in ElementTree.iterparse(file, events=("end",)):  # noqa: S314
            if element.tag == row_tag:
                out.write(orjson.dumps(_xml_value(element, lists)) + b"\n")
                element.clear()
    return rows


def _xml_shape(path: Path) -> tuple[str, set[tuple[str, str]]]:
    """Return the tag of a row, and which tags come twice in one element of another tag.

    The row is the outermost element that holds others and comes again: an order rather than its items.
    """
    counts: dict[str, int] = {}
    depths: dict[str, int] = {}
    lists: set[tuple[str, str]] = set()
    above: list[tuple[str, set[str]]] = []
    with _unpacked(path) as file:
        for n, (event, element) in enumerate(ElementTree.iterparse(file, events=("start", "end"))):  # noqa: S314
            if event == "end":
                above.pop()
                continue
            if above:
                parent, children = above[-1]
                if element.tag in children:
                    lists.add((parent, element.tag))
                children.add(element.tag)
                depths.setdefault(parent, len(above))
            counts[element.tag] = counts.get(element.tag, 0) + 1
            above.append((element.tag, set()))
            if n > 400_000:
                break
    again = [tag for tag in depths if counts[tag] > 1] or list(depths) or list(counts)
    return min(again, key=lambda tag: (depths.get(tag, 0), -counts[tag])), lists


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _xml_value(element: ElementTree.Element, lists: set[tuple[str, str]]) -> Any:
    """Return an element as Spark's reader sees it: attributes after an underscore, what repeats as a list."""
    text = (element.text or "").strip() or None
    found: dict[str, Any] = {f"_{_local(name)}": value for name, value in element.attrib.items()}
    if not len(element):
        return found | {"_VALUE": text} if found else text
    for child in element:
        name, value = _xml_name(child.tag), _xml_value(child, lists)
        if (element.tag, child.tag) in lists:
            found.setdefault(name, []).append(value)
        else:
            found[name] = value
    return found


def _xml_name(tag: str) -> str:
    return ("g:" if "base.google.com" in tag else "") + _local(tag)


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _listed(paths: list[Path]) -> str:
    return "[" + ", ".join(_text(str(path)) for path in paths) + "]"


def _csv_rows(session: duckdb.DuckDBPyConnection, copies: list[Path], found: ShopFile, in_parts: str) -> str:
    """Return the DuckDB query that reads CSV files as text, and note how they are written."""
    with copies[0].open(encoding="utf-8-sig", errors="replace", newline="") as file:
        head = file.read(1 << 20)
    delimiter, quote, escape, n_cells = _sniffed(session, copies[0], head)
    declared = re.match(r"sep=(.)\r?\n", head)
    delimiter = declared.group(1) if declared else delimiter or ","
    quote = quote or '"'
    if (re.search(r"\\" + re.escape(quote), head) and escape != quote) or escape == "\\":
        escape = "\\"
        found.saw.append("quotes inside quoted fields follow a backslash")
    options = ["all_varchar=true", "header=false", "auto_detect=false", "strict_mode=false", "null_padding=true"]
    options += ["ignore_errors=true", "parallel=false", f"delim={_text(delimiter)}", f"quote={_text(quote)}"]
    options += [f"escape={_text(escape or quote)}"]
    if delimiter != ",":
        found.source["separator"] = delimiter
    if quote != '"':
        found.source["quote"] = quote
    if escape == "\\":
        found.source["escape"] = "\\"
    blank = re.match(r"(?:[ \t]*\r?\n)*", head)
    skipped = 1 if declared else blank.group().count("\n") if blank else 0

    def call(names: list[str], skip: int, paths: list[Path], more: str = "hive_partitioning=false") -> str:
        columns = ", ".join(f"{_text(name)}: 'VARCHAR'" for name in names)
        return f"read_csv({_listed(paths)}, columns={{{columns}}}, skip={skip}, {', '.join([*options, more])})"

    unnamed = [f"column_{position}" for position in range(1, n_cells + 1)]
    first = session.execute(f"SELECT * FROM {call(unnamed, skipped, copies[:1])} LIMIT 200").fetchall()
    filled = [sum(cell is not None for cell in row) for row in first]
    if filled[0] == 1 and sorted(filled)[len(filled) // 2] > 2:
        found.unsure.append(
            f"{found.name}: its first line, {first[0][0]!r}, is no header. Delete what stands above the header; "
            "a run would take it for one"
        )
    if not is_header(_cells(first[0]), first[1:]):
        found.source |= {"header": False, "columns": unnamed}
        found.saw.append("the first line is data, not a header")
        found.unsure.append("columns: the file names none, so what each holds is judged by its values alone")
        return call(unnamed, skipped, copies, in_parts)
    # Each file by its own header: a later one may have a column more.
    wide = [f"column_{position}" for position in range(1, n_cells + 51)]
    by_header: dict[tuple[str, ...], list[Path]] = {}
    for copy in copies:
        row = session.execute(f"SELECT * FROM {call(wide, skipped, [copy])} LIMIT 1").fetchone() or ()
        n = max((position for position, cell in enumerate(row, start=1) if cell is not None), default=0)
        by_header.setdefault(tuple(unique_names(_cells(row[:n]))), []).append(copy)
    if len(by_header) > 1:
        found.saw.append("not all of the files have the same columns: they are matched by name")
    parts = [
        f"SELECT * FROM {call(list(names), skipped + 1, paths, in_parts)}"
        for names, paths in by_header.items()
        if names
    ]
    return f"({' UNION ALL BY NAME '.join(parts)})"


def _sniffed(session: duckdb.DuckDBPyConnection, path: Path, head: str) -> tuple[str, str, str, int]:
    """Return separator, quote, escape and number of columns of a CSV file."""
    lines = head.splitlines()[:-1][:50] or head.splitlines()
    for pair in ("::", "||"):
        n = lines[0].count(pair)
        if n and all(line.count(pair) == n for line in lines):
            return pair, "", "", n + 1
    # Strictly first: the lenient sniffer may take the commas of texts for separators.
    for how in ("", ", strict_mode=false", ", strict_mode=false, ignore_errors=true, null_padding=true"):
        try:
            sniffed = session.execute(f"SELECT * FROM sniff_csv(?, sample_size=20000{how})", [str(path)])
        except duckdb.Error:
            continue
        row = dict(zip([column[0] for column in sniffed.description or ()], sniffed.fetchone() or (), strict=True))
        delimiter, quote, escape = (_given(row[key]) for key in ("Delimiter", "Quote", "Escape"))
        return delimiter, quote, escape, max(1, len(row["Columns"]))
    return "", "", "", 1


def _cells(row: tuple[Any, ...]) -> list[str]:
    return ["" if cell is None else str(cell).strip("\ufeff ") for cell in row]


def _given(sniffed: str) -> str:
    return "" if sniffed in ("(empty)", "\0") else sniffed


def unique_names(cells: list[str]) -> list[str]:
    """Return the names that the reader of the stages gives the cells of a header."""
    # Not imported at the top: that module needs pyspark.
    from shelfkin.sources.csv_files import unique_names as names_of_cells

    return names_of_cells(cells)


def is_header(cells: list[str], rows: list[tuple[Any, ...]]) -> bool:
    """Return whether a file's first line names its columns: known names, or no values and nothing that comes again."""
    known = sum(max(name_score(field, cell)[0] for field in FIELDS) >= 0.7 for cell in cells)
    values = sum(bool(re.search(r"^[+-]?[\d.,:/ -]*\d[\d.,:/ TZ+-]*$|@|^https?:", cell)) for cell in cells)
    again = sum(cell != "" and any(row[i] == cell for row in rows) for i, cell in enumerate(cells))
    return known >= max(2, len(cells) / 2) or (values == 0 and again <= len(cells) / 4)


def _flatten(session: duckdb.DuckDBPyConnection, found: ShopFile) -> None:
    """Make the table of text columns: fields of structs get columns, the entries of one list get rows."""
    opened = session.table("opened")
    leaves = list(_leaves(dict(zip(opened.columns, opened.types, strict=True))))
    lists = {leaf.name: leaf for leaf in leaves if _is_list_of_structs(leaf.kind)}
    selected = [(leaf.name, leaf.sql, leaf.spark) for leaf in leaves if leaf.name not in lists]
    origin = "opened"
    # Of several lists, the one whose entries say most about a product: lines of an order, items of an event.
    said = {
        name: max(name_score("product_id", entry.name)[0] for entry in _leaves(_fields(leaf.kind.children[0][1])))
        for name, leaf in lists.items()
    }
    best = max(said, key=lambda name: said[name], default="")
    if said.get(best):
        found.unnested, found.unnested_spark = best, lists[best].spark
        origin = (
            f"(SELECT opened.*, each._entry FROM opened LEFT JOIN unnest({lists[best].sql}) AS each(_entry) ON true)"
        )
        found.saw.append(f"each entry of the list {best} is a row")
        beside = {name: (sql, spark) for name, sql, spark in selected}
        above = best.rpartition(".")[0]
        for entry in _leaves(_fields(lists[best].kind.children[0][1])):
            if str(entry.kind).endswith("[]"):
                continue
            sql, spark = f"_entry.{entry.sql}", f"entry.{entry.spark}"
            # What has no entries may say the same beside the list: a product that was viewed, those of an order.
            alone = beside.get(f"{above}.{entry.name}") if above else None
            if alone is not None:
                sql, spark = (
                    f"coalesce(CAST({sql} AS VARCHAR), CAST({alone[0]} AS VARCHAR))",
                    f"coalesce({spark}, {alone[1]})",
                )
            selected.append((f"{best}.{entry.name}", sql, spark))
    for name, _, spark in selected:
        found.expressions[name] = spark
    columns = ", ".join(f"nullif(trim(CAST({sql} AS VARCHAR)), '') AS {ident(name)}" for name, sql, _ in selected)
    session.execute(f"CREATE TABLE {ident(found.name)} AS SELECT {columns} FROM {origin}")


@dataclass(frozen=True)
class _Leaf:
    """A column that holds no further fields: its dotted name, its type, and itself in DuckDB's and in Spark's SQL."""

    name: str
    kind: Any
    sql: str
    spark: str


def _fields(kind: Any) -> dict[str, Any]:
    return dict(kind.children)


def _is_list_of_structs(kind: Any) -> bool:
    return str(kind).endswith("[]") and str(kind).startswith("STRUCT") and not str(kind).endswith("[][]")


def _leaves(fields: dict[str, Any], prefix: tuple[str, ...] = ()) -> Iterator[_Leaf]:
    for name, kind in fields.items():
        path = (*prefix, name)
        if str(kind).startswith("STRUCT(") and not str(kind).endswith("]") and len(path) < 5:
            yield from _leaves(_fields(kind), path)
        else:
            yield _Leaf(".".join(path), kind, ".".join(map(ident, path)), ".".join(map(quoted, path)))


def remove_folder(folder: Path) -> None:
    """Remove working copies."""
    shutil.rmtree(folder, ignore_errors=True)
