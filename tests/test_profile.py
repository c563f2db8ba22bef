"""Store profiles: the shipped ones load, and mistakes are named with file, key and allowed values."""

from __future__ import annotations

import csv
import importlib.util
import sys
from pathlib import Path

import pytest
import yaml

from shelfkin.demo_data import materialise
from shelfkin.errors import ProfileError
from shelfkin.profile import store_names
from shelfkin.profile_file import load_profile
from shelfkin.settings import Settings

MINIMAL = {
    "store": "corner",
    "title": "Corner shop",
    "catalog": {
        "kind": "snapshot",
        "source": {"path": "products.csv"},
        "fields": {"product_id": "id", "title": "name"},
    },
}


def written(tmp_path: Path, **changes: object) -> Path:
    path = tmp_path / "corner.yaml"
    path.write_text(yaml.safe_dump({**MINIMAL, **changes}), encoding="utf-8")
    return path


def test_shipped_profiles_load() -> None:
    settings = Settings.from_env({})
    names = store_names(settings.stores_dir)
    assert {"complete_journey", "online_retail", "titles_only"} <= set(names)
    for name in names:
        assert settings.profile(name).store == name


def test_unknown_key_names_file_key_and_allowed_keys(tmp_path: Path) -> None:
    source = {"path": "products.csv", "seperator": ";"}
    path = written(tmp_path, catalog={**MINIMAL["catalog"], "source": source})  # type: ignore[dict-item]
    with pytest.raises(ProfileError) as error:
        load_profile(path)
    message = str(error.value)
    assert "corner.yaml" in message
    assert "catalog.source.seperator: unknown key; allowed here:" in message
    assert "separator" in message.split("allowed here:")[1]


# Eight lines that stand for a billion values.
BOMB = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title: !!python/object/apply:os.system ['touch owned']\n", "line 1: not valid YAML"),
        ("title: !!python/name:os.system\n", "line 1: not valid YAML"),
        (f"{BOMB}store: corner\ntitle: *a9\n", "more than 100,000 values"),
        (f"{BOMB}store: corner\n? *a9\n: x\n", "more than 100,000 values"),
        (f"{BOMB.replace('[x]', '{x: 1}').replace('[*', '{<<: [*').replace(']', ']}')}store: corner\n", "more than"),
        ("store: &a [*a]\n", "store: must be a text"),
    ],
    ids=["call", "name", "value", "key", "merge", "itself"],
)
def test_yaml_runs_nothing_and_repeats_nothing_without_end(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "corner.yaml").write_text(text)
    with pytest.raises(ProfileError, match=said):
        load_profile(tmp_path / "corner.yaml")


def test_a_stores_name_leads_nowhere_else(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "stores").mkdir()
    with pytest.raises(ProfileError, match=r"no store '\.\./corner'"):
        Settings.from_env({"SHELFKIN_STORES_DIR": str(tmp_path / "stores")}).profile("../corner")
    with pytest.raises(ProfileError, match="store"):
        load_profile(written(tmp_path, store="../corner"))


def test_a_key_of_an_earlier_version_may_be_deleted(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"embedding\.coordinator_port: gone, .*; delete this line"):
        load_profile(written(tmp_path, embedding={"coordinator_port": 7078}))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"path": "p.csv", "encoding": "latin-99"}, "catalog.source.encoding: 'latin-99' is not a text encoding"),
        ({"path": "p.csv", "header": False}, "needs `columns`"),
        ({"path": "p.csv", "format": "excel"}, "catalog.source: format 'excel' is none of"),
        ({"path": "p.csv", "separator": "tab"}, r"catalog.source.separator: must be a sign .*a tab is .\\t"),
    ],
)
def test_wrong_values_are_explained(tmp_path: Path, source: dict[str, object], expected: str) -> None:
    path = written(tmp_path, catalog={**MINIMAL["catalog"], "source": source})  # type: ignore[dict-item]
    with pytest.raises(ProfileError, match=expected):
        load_profile(path)


@pytest.mark.parametrize("currency", ["euro", "€", "XQZ"])
def test_a_currency_that_nobody_pays_with_is_refused(tmp_path: Path, currency: str) -> None:
    with pytest.raises(ProfileError, match=r"currency: .* is not a code of ISO 4217 such as EUR"):
        load_profile(written(tmp_path, currency=currency))


def test_the_pattern_of_updated_at_is_checked_as_well(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"catalog\.timestamp_format: .*the year is yyyy"):
        load_profile(written(tmp_path, catalog={**MINIMAL["catalog"], "timestamp_format": "DD.MM.YYYY"}))  # type: ignore[dict-item]


def test_demo_data_is_written_once(tmp_path: Path) -> None:
    settings = Settings.from_env({"SHELFKIN_DATA": str(tmp_path)})
    folder = materialise(settings)
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == ["products.parquet", "transactions.parquet"]
    before = [file.stat().st_mtime_ns for file in files]
    materialise(settings)
    assert [file.stat().st_mtime_ns for file in files] == before


def test_titles_only_sample_is_what_its_script_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Settings.from_env({}).stores_dir / "samples"
    spec = importlib.util.spec_from_file_location("make_titles_only", folder / "make_titles_only.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclass looks its module up by name
    spec.loader.exec_module(module)
    rows = module.products()
    assert {"P316", "P333", "P1115"} <= {row[0] for row in rows}
    assert len(rows) == len({row[0] for row in rows}) == len({row[1] for row in rows}) == 1200
    with (folder / "titles_only.csv").open(encoding="utf-8", newline="") as file:
        assert [tuple(row) for row in csv.reader(file)] == [("product_id", "title", "description"), *rows]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("schedule: 0 3 * * *\nstart_date: 2026-01-01\npublish_by: 6 am", "'6 am' is not a time of day"),
        ("schedule: 0 3 * * *\nstart_date: 2026-01-01\npublish_by: 16:30", "quote it, as in '16:30'"),
        ("publish_by: '06:00'", "publish_by needs a schedule"),
    ],
)
def test_publish_by_is_a_time_of_day_of_a_scheduled_shop(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path)
    path.write_text(f"{path.read_text()}{text}\n")
    with pytest.raises(ProfileError, match=said):
        load_profile(path)
