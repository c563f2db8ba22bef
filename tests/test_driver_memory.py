"""How large a catalogue a driver can take."""

from __future__ import annotations

import pytest

from shelfkin import driver_memory
from shelfkin.driver_memory import DriverMemory, parse_size
from shelfkin.errors import OptionError

GIB = 2**30


def test_what_fits_is_what_is_left_beside_spark() -> None:
    # 16 GiB less 4 of heap and 2 of all else leave 10; a text of 256 numbers takes 2 * 1,024 + 1,500 bytes.
    assert DriverMemory(16 * GIB, 4 * GIB).texts_that_fit(256) == 10 * GIB // 3_548


def test_a_small_machine_is_not_refused_for_a_heap_that_it_hardly_uses() -> None:
    assert DriverMemory(4 * GIB, 4 * GIB).texts_that_fit(256) == GIB // 3_548


def test_a_catalogue_that_does_not_fit_is_refused_with_the_way_out() -> None:
    memory = DriverMemory(16 * GIB, 4 * GIB)
    n_fit = memory.texts_that_fit(1536)
    assert f"up to {n_fit:,} texts" in memory.check(n_fit, 1536)
    with pytest.raises(OptionError, match=f"{n_fit + 1:,} distinct texts of 1,536 numbers") as caught:
        memory.check(n_fit + 1, 1536)
    assert "fewer dimensions" in str(caught.value.next_step)


@pytest.mark.parametrize(("text", "size"), [("4g", 4 * GIB), ("512M", 512 * 2**20), ("2gb", 2 * GIB), ("1024", 1024)])
def test_sizes_are_read_as_spark_writes_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "4x", "-1g", "1.5g"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("limit", "is_limited"), [("1073741824", True), ("max", False), ("9223372036854771712", False)]
)
def test_a_containers_limit_counts(
    limit: str, is_limited: bool, tmp_path: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_memory, "_CONTAINER_LIMITS", ())
    physical = DriverMemory.of_this_machine("1g").total_bytes
    file = tmp_path / "memory.max"
    file.write_text(limit)
    monkeypatch.setattr(driver_memory, "_CONTAINER_LIMITS", (str(file),))
    assert DriverMemory.of_this_machine("1g").total_bytes == (GIB if is_limited else physical)
