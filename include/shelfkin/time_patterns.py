"""Time formats of a profile: Spark's datetime patterns, checked without Spark.

A letter that is wrong by a hair reads another time in silence: ``hh`` without AM or PM makes 00:30 of 12:30, ``SS`` in
place of ``ss`` takes seconds for fractions.
"""

from __future__ import annotations

import re
from collections import Counter

# Letters that Spark reads, and how many may stand together.
_LONGEST = {
    **dict.fromkeys("dHhKkms", 2),
    **dict.fromkeys("MLGzO", 4),
    **dict.fromkeys("XxZ", 5),
    "y": 6,
    "D": 3,
    "S": 9,
    "a": 1,
    "V": 2,
}
_HINTS = {
    "Y": "Y counts years by weeks; the year is yyyy",
    "u": "the year is yyyy",
    "D": "D is the day of the year; the day of the month is dd",
    "E": "names of weekdays can't be read",
    "T": "letters of the text itself stand in quotes: 'T'",
}
_NO_PATTERN = (
    "is not a pattern of year (yyyy), month (MM) and day (dd), such as yyyy-MM-dd HH:mm:ss; without this key, ISO 8601 "
    "is read, and whole numbers of seconds or milliseconds since 1970"
)


def check_time_pattern(pattern: str) -> str:
    """Return a pattern that Spark can read times with; a quoted 'Z' or 'UTC' becomes the offset that it stands for.

    Raises
    ------
    ValueError
        Spark doesn't know a letter, or the pattern would read another time than is written. The message says what to
        write.
    """
    if pattern.count("'") % 2:
        raise ValueError(f"{pattern!r} has a quote without its other half")
    # As text it would be thrown away, and 10:00Z be taken for ten o'clock in the shop's zone.
    pattern = re.sub("'(?:UTC|GMT)'", "z", pattern.replace("'Z'", "X"))
    letters = "'".join(pattern.split("'")[::2])
    fields = [match.group() for match in re.finditer(r"([A-Za-z])\1*", letters)]
    has = {field[0] for field in fields}
    if "%" in pattern or not (has & set("yY") or has >= set("uM")):
        raise ValueError(f"{pattern!r} {_NO_PATTERN}")
    problems = [*_wrong_letters(fields, letters), *_wrong_fields(fields)]
    if "[" not in letters:
        problems += _repeated(fields)
    if problems:
        raise ValueError(f"{pattern!r} would not read what is meant: {'; '.join(dict.fromkeys(problems))}")
    return pattern


def _wrong_letters(fields: list[str], letters: str) -> list[str]:
    problems = [f"{sign} has no place in a pattern" for sign in re.findall("[{}#]", letters)]
    if letters.count("[") != letters.count("]"):
        problems.append("[ and ] stand around what may be missing")
    is_day_of_year = "DDD" in fields and not any(field[0] in "MLd" for field in fields)
    for field in fields:
        if field[0] not in _LONGEST or (field[0] == "D" and not is_day_of_year):
            problems.append(_HINTS.get(field[0], f"Spark reads no letter {field[0]}"))
        elif len(field) > _LONGEST[field[0]] or field in ("OO", "OOO"):
            problems.append(f"{field} is too long")
        elif field == "V":
            problems.append("the name of a zone is VV")
    return problems


def _wrong_fields(fields: list[str]) -> list[str]:
    """Return what is missing beside other fields."""
    has = {field[0] for field in fields}
    clock = has & set("HhKkmsSa")
    rules = [
        (not has & set("MLD"), "the month is missing: MM"),
        (bool(clock) and not has & set("dD"), "the day is missing: dd"),
        (bool(clock) and not has & set("HhKk"), "the hours are missing: HH"),
        (bool(has & set("sS")) and "m" not in has, "the minutes are missing: mm"),
        ("S" in has and "s" not in has, "SSS are fractions of a second; seconds are ss"),
        (bool(has & set("hK")) and "a" not in has, "hh counts to 12 and needs a, for AM or PM; hours to 24 are HH"),
        ("a" in has and not has & set("hK"), "a, for AM or PM, goes with hh"),
    ]
    return [problem for broken, problem in rules if broken]


def _repeated(fields: list[str]) -> list[str]:
    hints = {"M": ": months are MM, minutes mm", "m": ": minutes are mm, months MM"}
    n_fields = Counter(field[0] for field in fields)
    return [f"{letter} stands twice{hints.get(letter, '')}" for letter, n in sorted(n_fields.items()) if n > 1]
