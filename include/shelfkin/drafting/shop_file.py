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
    unnested
        The list column of which each entry became a row; None for flat files.
    saw, unsure
        Sentences for the draft's comments.
    """

    path: str
    name: str
    source: dict[str, Any] = field(default_factory=dict)
    expressions: dict[str, str] = field(default_factory=dict)
    unnested: str | None = None
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
    if kind != "csv":
        found.source["format"] = kind
    try:
        if kind == "parquet":
            rows = f"read_parquet({_listed(paths)}, union_by_name=true)"
        elif kind == "orc":
            session.register("orc_rows", _orc(path))
            rows = "orc_rows"
        elif kind == "xml":
            rows = f"read_json({_listed([_xml_rows(path, folder, found)])}, {_JSON})"
        elif kind in ("json", "jsonl"):
            rows = f"read_json({_listed([_as_utf8(each, folder, found, others) for each in paths])}, {_JSON})"
        else:
            rows = _csv_rows(session, [_as_utf8(each, folder, found, others) for each in paths], found)
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
    """Return the one path of files, with a glob where their names differ."""
    if len(paths) == 1:
        return str(paths[0])
    names = [str(path) for path in paths]
    shortest = min(map(len, names))
    start = next((i for i in range(shortest) if len({name[i] for name in names}) > 1), shortest)
    end = next((i for i in range(shortest - start) if len({name[-1 - i] for name in names}) > 1), shortest - start)
    return names[0][:start] + "*" + (names[0][len(names[0]) - end :] if end else "")


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
        return lines[: 50 << 10]


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
    strange = b"\n".join(line for line in block.splitlines() if not line.isascii())[: 200 << 10]
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
    if doubt and doubt not in found.unsure:
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
    counts: dict[str, int] = {}
    with _unpacked(path) as file:
        for n, (_, element) in enumerate(ElementTree.iterparse(file, events=("start",))):  # noqa: S314
            counts[element.tag] = counts.get(element.tag, 0) + 1
            if n > 200_000:
                break
    # The row is the most frequent element that holds others; a feed says item or entry.
    named = [tag for tag in counts if _local(tag) in ("item", "entry", "product", "offer", "row", "record")]
    row_tag = max(named or list(counts), key=lambda tag: counts[tag])
    found.source["options"] = {"rowTag": _local(row_tag)}
    rows = folder / f"{found.name}.jsonl"
    with _unpacked(path) as file, rows.open("wb") as out:
        for _, element in ElementTree.iterparse(file, events=("end",)):  # noqa: S314
            if element.tag == row_tag:
                out.write(orjson.dumps(_xml_value(element)) + b"\n")
                element.clear()
    return rows


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _xml_value(element: ElementTree.Element) -> Any:
    children = list(element)
    if not children:
        return (element.text or "").strip() or None
    return {_xml_name(child.tag): _xml_value(child) for child in children}


def _xml_name(tag: str) -> str:
    return ("g:" if "base.google.com" in tag else "") + _local(tag)


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _listed(paths: list[Path]) -> str:
    return "[" + ", ".join(_text(str(path)) for path in paths) + "]"


def _csv_rows(session: duckdb.DuckDBPyConnection, copies: list[Path], found: ShopFile) -> str:
    """Return the DuckDB call that reads CSV files as text, and note how they are written."""
    sniffed = session.execute("SELECT * FROM sniff_csv(?, sample_size=20000, strict_mode=false)", [str(copies[0])])
    names = [column[0] for column in sniffed.description or ()]
    row = dict(zip(names, sniffed.fetchone() or (), strict=True))
    delimiter, quote, escape = (_given(row[key]) for key in ("Delimiter", "Quote", "Escape"))
    with copies[0].open(encoding="utf-8-sig", errors="replace", newline="") as file:
        head = file.read(1 << 20)
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
    skipped = 1 if declared else 0
    n_cells = max(1, len(row["Columns"]))

    def call(names: list[str], skip: int, paths: list[Path] = copies) -> str:
        columns = ", ".join(f"{_text(name)}: 'VARCHAR'" for name in names)
        return f"read_csv({_listed(paths)}, columns={{{columns}}}, skip={skip}, {', '.join(options)})"

    unnamed = [f"column_{position}" for position in range(1, n_cells + 1)]
    first = session.execute(f"SELECT * FROM {call(unnamed, skipped, copies[:1])} LIMIT 200").fetchall()
    cells = ["" if cell is None else str(cell).strip("\ufeff ") for cell in first[0]]
    if is_header(cells, first[1:]):
        return call(unique_names(cells), skipped + 1)
    found.source |= {"header": False, "columns": unnamed}
    found.saw.append("the first line is data, not a header")
    found.unsure.append("columns: the file names none, so what each holds is judged by its values alone")
    return call(unnamed, skipped)


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
    types: dict[str, Any] = dict(zip(opened.columns, opened.types, strict=True))
    lists = [name for name, kind in types.items() if str(kind).endswith("[]") and str(kind).startswith("STRUCT")]
    origin = "opened"
    # Of several lists, the one whose entries say most about a product: lines of an order, items of an event.
    if lists:

        def says(name: str) -> float:
            entries = [child[0] for child in types[name].children[0][1].children]
            return max(name_score("product_id", entry)[0] for entry in entries)

        best = max(lists, key=says)
        if says(best) > 0:
            found.unnested = best
            origin = f"(SELECT *, unnest({ident(best)}) AS _entry FROM opened)"
            found.saw.append(f"each entry of the list {best} is a row")
    selected = list(_leaves(types, lists))
    if found.unnested:
        entry = types[found.unnested].children[0][1]
        selected += [
            (f"{found.unnested}.{name}", f"_entry.{ident(name)}", f"entry.{quoted(name)}")
            for name, kind in entry.children
            if not str(kind).endswith("[]")
        ]
    for name, _, spark in selected:
        found.expressions[name] = spark
    columns = ", ".join(f"nullif(trim(CAST({sql} AS VARCHAR)), '') AS {ident(name)}" for name, sql, _ in selected)
    session.execute(f"CREATE TABLE {ident(found.name)} AS SELECT {columns} FROM {origin}")


def _leaves(types: dict[str, Any], lists: list[str], prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, str, str]]:
    for name, kind in types.items():
        if name in lists:
            continue
        path = (*prefix, name)
        if str(kind).startswith("STRUCT(") and not str(kind).endswith("]") and len(path) < 3:
            yield from _leaves(dict(kind.children), [], path)
        else:
            yield ".".join(path), ".".join(map(ident, path)), ".".join(map(quoted, path))


def remove_folder(folder: Path) -> None:
    """Remove working copies."""
    shutil.rmtree(folder, ignore_errors=True)
