"""Whose journal is it, and may its writer still be at work?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shelfkin.artifacts import Root
from shelfkin.embedding.journal import Journal
from shelfkin.embedding.ledger import unaccounted_journals
from shelfkin.embedding.provider import Provider
from shelfkin.embedding.vector_store import VectorStore

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> VectorStore:
    return VectorStore.of(Root.at(str(tmp_path)), Provider("local", "", "some-model", 4, False))


def opened(store: VectorStore, **said: object) -> Journal:
    """A journal of the run with the manifest a.json, with something else in its owner's place."""
    journal = store.journal("run-a")
    journal.open("a.json")
    owner = Path(journal.uri) / "owner.json"
    owner.write_text(json.dumps({**json.loads(owner.read_text()), **said}))
    return journal


def test_a_process_of_this_machine_is_asked_for(store: VectorStore) -> None:
    assert opened(store, pid=os.getppid()).may_live("b.json")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert not opened(store, pid=ended.pid).may_live("b.json")


def test_a_writer_on_another_machine_is_dead_when_it_has_been_silent(store: VectorStore) -> None:
    journal = opened(store, host="elsewhere", opened_at=(NOW - timedelta(hours=3)).isoformat())
    assert not journal.may_live("b.json", NOW)
    journal.put(1, [{"permit": "run-a-1", "at": (NOW - timedelta(minutes=2)).isoformat()}])
    assert journal.may_live("b.json", NOW)
    assert not journal.may_live("b.json", NOW + timedelta(minutes=20))


def test_two_tries_of_one_run_never_live_at_the_same_time(store: VectorStore) -> None:
    assert not opened(store, pid=os.getppid()).may_live("a.json")


def test_who_has_ended_does_not_live(store: VectorStore) -> None:
    journal = opened(store, pid=os.getppid())
    journal.end()
    assert not journal.may_live("b.json")


def test_a_journal_is_taken_once(store: VectorStore) -> None:
    opened(store).end()
    (journal,) = unaccounted_journals(store, "b.json")
    journal.take("b.json")
    # The run that took it was killed before its manifest: the next one takes it again.
    assert unaccounted_journals(store, "c.json") == [journal]
    store.root.put_json(store.root.join("b.json"), {"metrics": {"journals": ["run-a"]}})
    assert unaccounted_journals(store, "c.json") == []
    assert store.journals() == []
