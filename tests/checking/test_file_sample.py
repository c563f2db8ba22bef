"""Samples of large files: whole records only, some of them from further on."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import pytest

from shelfkin.checking import file_sample
from shelfkin.checking.file_sample import Sampler
from shelfkin.profile import Source


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_sample, "WHOLE_BYTES", 10_000)
    monkeypatch.setattr(file_sample, "_HEAD_BYTES", 4_000)
    monkeypatch.setattr(file_sample, "_BLOCK_BYTES", 2_000)


def write(path: Path, n: int) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "text", "price"])
        rows.writerows([i, f'line one,\nline "two" of {i}', "1,50"] for i in range(n))
    return path


def sample(path: Path, folder: Path, **source: object) -> tuple[list[list[str]], list[str]]:
    sampler = Sampler(folder)
    (copy,) = sampler.sampled(Source.model_validate({"path": str(path), **source}), [str(path)])
    with Path(copy).open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file)), sampler.notes


def test_a_small_file_is_read_as_a_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "small.csv", 50)
    sampler = Sampler(tmp_path)
    assert sampler.sampled(Source(path=str(path)), [str(path)]) == [str(path)]
    assert sampler.notes == []


def test_a_large_file_gives_whole_records_from_all_over(tmp_path: Path) -> None:
    path = write(tmp_path / "large.csv", 5_000)
    folder = tmp_path / "copies"
    folder.mkdir()
    rows, notes = sample(path, folder)
    assert rows[0] == ["id", "text", "price"]
    numbers = [int(row[0]) for row in rows[1:]]
    assert all(row[1] == f'line one,\nline "two" of {row[0]}' for row in rows[1:]), "no record is cut"
    assert numbers[0] == 0
    assert len(numbers) < 1_000
    assert "large.csv" in notes[0]


def test_lines_of_one_record_each_come_from_further_on_too(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text("id,n\n" + "".join(f"{i},{i % 7}\n" for i in range(20_000)), encoding="utf-8")
    folder = tmp_path / "copies"
    folder.mkdir()
    rows, notes = sample(path, folder)
    numbers = [int(row[0]) for row in rows[1:]]
    assert numbers[-1] == 19_999, "the end is seen: how far the log reaches"
    assert {len(row) for row in rows} == {2}
    assert "9 places further on" in notes[0]


def test_packed_files_are_sampled_as_well(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv.gz"
    path.write_bytes(gzip.compress(b"id,n\n" + b"".join(b"%d,%d\n" % (i, i * 7919 % 9973) for i in range(50_000))))
    folder = tmp_path / "copies"
    folder.mkdir()
    rows, notes = sample(path, folder)
    assert [row[0] for row in rows[1:4]] == ["0", "1", "2"]
    assert rows[-1][0] == "49999"
    assert "orders.csv.gz" in notes[0]
