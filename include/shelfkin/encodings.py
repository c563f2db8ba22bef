"""Text encodings by the names that people use, with one meaning for Python, which looks at files, and Java.

Nothing here imports pyspark: profiles are checked with it.
"""

from __future__ import annotations

import codecs
import re
import tomllib
from dataclasses import dataclass
from importlib import resources

_DATA = tomllib.loads(resources.files("shelfkin").joinpath("encodings.toml").read_text("utf-8"))
_ALIASES: dict[str, str] = _DATA["aliases"]
_JAVA: dict[str, str] = _DATA["java"]
# The longer first: UTF-32's mark begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass(frozen=True)
class Charset:
    """An encoding by its names in Python and in Java."""

    python: str
    java: str

    @property
    def is_wide(self) -> bool:
        """Whether a line break is more than one byte, so that nobody can split such a file by bytes."""
        return self.python.startswith(("utf-16", "utf-32"))


def charset(name: str) -> Charset:
    """Return an encoding by any of its names.

    Raises
    ------
    LookupError
        Nobody calls an encoding so, or Java has none like it.

    Examples
    --------
    >>> charset("ANSI")
    Charset(python='cp1252', java='windows-1252')
    >>> charset("Windows-31J").java, charset("latin-1").java, charset("win1251").java
    ('windows-31j', 'ISO-8859-1', 'windows-1251')
    """
    plain = re.sub(r"[ _]+", "-", name.strip().lower())
    plain = re.sub(r"^(?:x-)?(?:windows|win|cp)-?(125\d)$", r"cp\1", plain)
    python = codecs.lookup(_ALIASES.get(plain, plain)).name.replace("_", "-")
    python = next((each for each in _JAVA if each.replace("_", "-") == python), python)
    if python not in _JAVA:
        raise LookupError(f"Spark can't read {python}; convert the file with iconv")
    return Charset(python, _JAVA[python])


def charset_of_file(first: bytes, told: Charset) -> Charset:
    """Return the encoding that a file's own mark names, else the one `told`; UTF-16 without a mark by its zeros.

    Parameters
    ----------
    first
        The first bytes of the file.
    """
    for mark, name in _MARKS:
        if first.startswith(mark):
            return charset(name)
    if told.python in ("utf-16", "utf-32"):
        # In text of any language some characters are ASCII: their high bytes are zero.
        width = 2 if told.python == "utf-16" else 4
        is_little = first[::width].count(0) < first[width - 1 :: width].count(0)
        return charset(f"{told.python}-{'le' if is_little else 'be'}")
    return told
