"""Read a shop's raw rows, whatever their format, and lose none on the way."""

from shelfkin.sources.raw_table import RawTable, raw_json, row_hash, text, value
from shelfkin.sources.reading import read_rows

__all__ = ["RawTable", "raw_json", "read_rows", "row_hash", "text", "value"]
