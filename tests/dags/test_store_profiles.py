"""A broken profile takes no other store's DAG with it, and shows where people look: under import errors."""

from __future__ import annotations

from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag

pytestmark = pytest.mark.airflow

DAGS = Path(__file__).resolve().parents[2] / "dags"
GOOD = """
store: {name}
title: A good shop
catalog:
  kind: snapshot
  source: {{path: goods.csv}}
  fields: {{product_id: sku, title: label}}
"""
SCHEDULED = (
    GOOD
    + """
schedule: "{schedule}"
start_date: {start_date}
"""
)


def parsed(stores: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[set[str], str, str]:
    """Return the DAG ids that Airflow finds, what its UI lists as import errors, and the warnings of the DAGs' file."""
    monkeypatch.setenv("SHELFKIN_STORES_DIR", str(stores))
    bag = DagBag(DAGS, bundle_path=DAGS, bundle_name="dags")
    assert "product_recommendations.py" not in bag.import_errors
    warned = "\n".join(line for lines in bag.captured_warnings.values() for line in lines)
    return set(bag.dags) - {"backfill_forecast", "retention"}, bag.import_errors.get("store_profiles.py", ""), warned


@pytest.mark.filterwarnings("always::UserWarning")
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (SCHEDULED.format(name="bad", schedule="0 3 * * *", start_date="2025-11-31"), ["start_date", "2025-11-31"]),
        (SCHEDULED.format(name="bad", schedule="61 3 * * *", start_date="2025-11-30"), ["schedule", "61 3 * * *"]),
        (SCHEDULED.format(name="bad", schedule="0 3 31 4 *", start_date="2025-11-30"), ["schedule", "0 3 31 4 *"]),
        (GOOD.format(name="bad") + "title: Twice\n", ["title", "stands twice, on lines 3 and 8"]),
        ("store: [bad\n", ["line 2", "not valid YAML"]),
        ("", ["holds no keys"]),
        ("- store: bad\n", ["holds no keys"]),
        (GOOD.format(name="worse"), ["store", "bad"]),
        ("\x00", ["not valid YAML"]),
    ],
)
def test_one_broken_profile_is_shown_and_the_other_stores_keep_their_dags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, words: list[str]
) -> None:
    (tmp_path / "fine.yaml").write_text(SCHEDULED.format(name="fine", schedule="0 3 * * 1", start_date="2025-11-30"))
    (tmp_path / "bad.yaml").write_text(content)
    dags, shown, warned = parsed(tmp_path, monkeypatch)
    assert dags == {"product_recommendations__fine"}
    for text in (shown, warned):
        assert "bad.yaml" in text
        assert all(word in text for word in words), text


@pytest.mark.filterwarnings("always::UserWarning")
def test_two_broken_profiles_are_both_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text(GOOD.format(name=name) + "timezone: Mars/Olympus\n")
    dags, shown, _ = parsed(tmp_path, monkeypatch)
    assert dags == set()
    assert "one.yaml" in shown and "two.yaml" in shown and "Mars/Olympus" in shown


@pytest.mark.filterwarnings("always::UserWarning")
@pytest.mark.parametrize("folder", ["empty", "missing"])
def test_no_store_at_all_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    dags, shown, warned = parsed(tmp_path / folder, monkeypatch)
    assert dags == set()
    assert f"There is no store: the folder {tmp_path / folder}" in shown
    assert "SHELFKIN_STORES_DIR" in warned


def test_with_good_profiles_there_is_nothing_to_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fine.yaml").write_text(GOOD.format(name="fine") + "enabled: false\n")
    assert parsed(tmp_path, monkeypatch) == (set(), "", "")
