"""A run that the gate refuses moves no pointer, and says how to publish it all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from finished_run import stamped_rows, write_run
from shelfkin.artifacts import published_before
from shelfkin.errors import GateError
from shelfkin.serving import publish
from shelfkin.serving.index import open_index
from shelfkin.serving.publish import publish_run

REFUSED = {"gate": "refuse", "gate_reason": "our lists lose to the baseline popularity beyond noise", "ndcg_at_10": 0.1}


def test_a_refused_run_leaves_the_old_pointers_until_it_is_overridden(tmp_path: Path) -> None:
    older, uris = write_run(tmp_path, stamped_rows(1), as_of="2024-06-01", metrics={"gate": "pass"})
    publish_run(older, uris, publish=True)
    before = older.root.read_json(older.latest_uri())
    refused, uris = write_run(tmp_path, stamped_rows(2), as_of="2024-06-02", run_id="r2", metrics=REFUSED)
    with pytest.raises(GateError, match="lose to the baseline popularity") as caught:
        publish_run(refused, uris, publish=True)
    assert not caught.value.retryable
    assert "override_gate" in caught.value.next_step
    assert refused.root.read_json(refused.latest_uri()) == before
    assert not refused.root.exists(refused.published_uri())
    # A what-if run of it is allowed: nobody is pointed to it.
    assert not publish_run(refused, uris, publish=False).published
    assert publish_run(refused, uris, publish=True, override_gate=True).is_latest
    assert refused.root.read_json(refused.latest_uri())["run_id"] == "r2"


def test_what_was_published_before_is_the_newest_older_day(tmp_path: Path) -> None:
    for day in ("2024-06-01", "2024-06-05", "2024-06-03"):
        paths, uris = write_run(tmp_path, stamped_rows(1), as_of=day, run_id=day, metrics={"gate": "abstain"})
        publish_run(paths, uris, publish=True)
    paths = write_run(tmp_path, stamped_rows(1), as_of="2024-06-05", run_id="again")[0]
    assert [pointer["as_of"] for pointer in published_before(paths)] == ["2024-06-03"]
    assert [pointer["as_of"] for pointer in published_before(paths, 9)] == ["2024-06-03", "2024-06-01"]
    assert published_before(write_run(tmp_path, stamped_rows(1), as_of="2024-06-01", run_id="first")[0]) == []


def test_a_run_published_by_an_older_version_gets_a_new_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, uris = write_run(tmp_path, stamped_rows(1))
    with monkeypatch.context() as patch:
        patch.setattr(publish, "LAYOUT", 0)
        publish_run(paths, uris, publish=True)
    older = paths.root.read_json(paths.latest_uri())["serving_index"]
    Path(older).write_bytes(b"an older layout")
    publish_run(paths, uris, publish=True)
    with open_index(paths.root, paths.root.read_json(paths.latest_uri()), tmp_path) as index:
        assert index.run()["run_id"] == "r1"
