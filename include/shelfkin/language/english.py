"""English: word lists from ``english.toml``, plurals, and words with letters left out."""

from __future__ import annotations

import re
import tomllib
from importlib import resources

_LISTS = tomllib.loads(resources.files(__package__).joinpath("english.toml").read_text("utf-8"))


def word_list(*names: str) -> frozenset[str]:
    """Return the words of some lists of ``english.toml`` together."""
    return frozenset(word for name in names for word in _LISTS[name].split())


GRAMMAR = word_list("grammar")
NUMBERS = word_list("numbers")
FUNCTION_WORDS = word_list("grammar", "numbers", "limits", "anything")
MEASURES = word_list("measures")
COUNTS = word_list("counts")
PLAIN_SIZES = word_list("plain_sizes")
LETTER_SIZES = word_list("letter_sizes")
PACKAGING = word_list("packaging")
SIZES = word_list("measures", "counts", "plain_sizes", "packaging", "shapes")
CONTAINERS = word_list("containers")
COLOURS = word_list("colours")
SHADES = word_list("shades")
# No first word of a name, but the last one: hot water bottle, ice cream.
ONLY_LAST = word_list("containers", "colours_or_things")
# No words of a name, and no abbreviations of other ones.
NAMELESS = FUNCTION_WORDS | SIZES | COLOURS | ONLY_LAST

_VOWELLESS_WORDS = word_list("vowelless")
_VOWELLESS = re.compile(r"(?:^|-)[b-df-hj-np-tv-xz]{2,}(?:-|$)")


def fold(word: str) -> str:
    """Fold simple plurals: cookies = cookie, boxes = box, dishes = dish, cards = card; glass and bus stay.

    Examples
    --------
    >>> [fold(word) for word in ("cookies", "boxes", "cards", "glass")]
    ['cooky', 'box', 'card', 'glass']
    """
    word = re.sub(r"(?<=[^\W\d_]{2})(ies|ie)$", "y", word)
    word = re.sub(r"(?<=ch|sh|ss)es$", "", word)
    word = re.sub(r"(?<=[xz])es$", "", word)
    return re.sub(r"(?<=[^\W\d_]{2}[^sui\W\d_])s$", "", word)


def is_plural(word: str) -> bool:
    """Whether a word has the form of a simple plural."""
    return word.endswith("s") and fold(word) != word


def consonants(word: str) -> str:
    """Return a word without vowels (but a leading one) and doubled letters: what a till leaves of it."""
    return word[:1] + re.sub(r"(.)\1+", r"\1", re.sub("[aeiouy]", "", word[1:]))


def is_vowelless(word: str) -> bool:
    """Whether a word in Latin letters has a part without vowels, as only a till's have: frzn, sft; not tv."""
    return word not in _VOWELLESS_WORDS and _VOWELLESS.search(word) is not None


def is_consonants(word: str) -> bool:
    """Whether a word has no vowel but y: ckys, frzn."""
    return re.fullmatch("[b-df-hj-np-tv-z]+", word) is not None


def is_short_for(short: str, full: str) -> bool:
    """Whether a word is another one with letters left out, as on a till's receipt: drnk, drinks; cleang, cleaning.

    Plurals are folded. Without a vowel it needs three letters; with vowels, four letters, the same ending and fewer
    syllables: not moth, mouth (as many syllables), nor phone, phoneeasy (a beginning), nor toys, tissue (other vowels).
    """
    n_letters = len(short)
    short, full = fold(short), fold(full)
    if len(short) >= len(full) or consonants(short) != consonants(full) or is_vowelless(full):
        return False
    letters = iter(full)
    if not all(letter in letters for letter in short):
        return False
    if is_vowelless(short):
        return n_letters >= 3
    squeezed = n_letters >= 4 and not full.startswith(short) and short[-1] == full[-1]
    return squeezed and _n_syllables(short) < _n_syllables(full)


def _n_syllables(word: str) -> int:
    return len(re.findall("[aeiouy]+", re.sub("e?s?$", "", word)))
