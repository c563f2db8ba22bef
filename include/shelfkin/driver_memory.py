"""How large a catalogue a driver can take: known before a run spends money on its vectors.

The driver's Python process holds every distinct text's vector while it searches nearest texts and makes lists. That is
the one ceiling of a run: k-means is fitted on a sample, vectors are read file by file without Spark's
``spark.driver.maxResultSize``, and all else stays on the executors or is small beside it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from shelfkin.errors import OptionError

# Vectors by text, and again by group of variants: in the worst case no product has a variant.
_COPIES_OF_VECTORS = 2
# A product's row and its text's hash, 675 bytes as measured with 200,000 and 400,000 texts of 384 numbers, 500 bytes of
# nearest texts (docs/recommending.md), and some room.
_BYTES_PER_TEXT = 1_500
# Python and its libraries, Spark's Java outside its heap, and the Python workers of two cores.
_BYTES_OF_ALL_ELSE = 2 * 2**30
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
# Where a container's limit stands, by version of control groups; "max" or a huge number is none.
_CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True)
class DriverMemory:
    """A driver's machine.

    Attributes
    ----------
    total_bytes
        Memory of the machine or of its container.
    heap_bytes
        Of it, what Spark's Java may take: ``SHELFKIN_DRIVER_MEMORY``.
    """

    total_bytes: int
    heap_bytes: int

    @classmethod
    def of_this_machine(cls, heap: str) -> DriverMemory:
        """Return this machine's memory beside a heap such as ``4g``."""
        return cls(_machine_bytes(), parse_size(heap))

    def texts_that_fit(self, dimensions: int) -> int:
        """Return how many distinct texts of so many numbers the driver takes.

        Examples
        --------
        >>> DriverMemory(total_bytes=24 * 2**30, heap_bytes=4 * 2**30).texts_that_fit(1536)
        1401751
        """
        free = self.total_bytes - self.heap_bytes - _BYTES_OF_ALL_ELSE
        # A heap is a limit: on a small machine with little data Spark takes far less than it may.
        return max(free, self.total_bytes // 4) // _bytes_per_text(dimensions)

    def check(self, n_texts: int, dimensions: int) -> str:
        """Return in words how large a catalogue fits.

        Raises
        ------
        OptionError
            This one doesn't.
        """
        n_fit = self.texts_that_fit(dimensions)
        size = f"{self.total_bytes / 2**30:.0f} GiB of memory, of which Spark may take {self.heap_bytes / 2**30:.0f}"
        if n_texts > n_fit:
            needed = n_texts * _bytes_per_text(dimensions) + self.heap_bytes + _BYTES_OF_ALL_ELSE
            raise OptionError(
                f"{n_texts:,} distinct texts of {dimensions:,} numbers need about {needed / 2**30:.0f} GiB on the "
                f"driver; it has {size}, enough for {n_fit:,} texts.",
                next_step="Choose fewer dimensions, a machine with more memory, or a smaller SHELFKIN_DRIVER_MEMORY.",
            )
        return f"a driver with {size}, takes up to {n_fit:,} texts of {dimensions:,} numbers"


def _bytes_per_text(dimensions: int) -> int:
    return _COPIES_OF_VECTORS * 4 * dimensions + _BYTES_PER_TEXT


def parse_size(text: str) -> int:
    """Return the bytes of a size as Spark writes it.

    Raises
    ------
    OptionError
        It is no such size.

    Examples
    --------
    >>> parse_size("4g")
    4294967296
    """
    written = re.fullmatch(r"(\d+)([kmgt]?)b?", text.strip().lower())
    if written is None:
        raise OptionError(f"{text!r} is not a size of memory.", next_step="Write it like 4g or 512m.")
    return int(written[1]) * _UNITS[written[2]]


def _machine_bytes() -> int:
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [Path(path).read_text().strip() for path in _CONTAINER_LIMITS if Path(path).is_file()]
    return min([physical, *(int(limit) for limit in limits if limit.isdigit())])
