"""From a product's texts to the words and pairs of words that may name a cluster.

Every text is cut into phrases: at punctuation, numbers, units and function words. Terms are the words of a phrase and
its pairs of neighbours, with case and simple English plurals folded. How a term stands in its phrase says whether it
names a thing or describes one: the last word is the thing ("photo frame"), what follows a spaced dash, a colon or a
bracket is a note ("Fruit - shelf stable"), and a title's first word is often its maker.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

# Words that carry no meaning of their own in a product's name.
_GRAMMAR = """
a about all also an and any are as at be best by can do each for from get has have if in inc incl including into is it
its more my new of off on only or our out per so than that the their them this to too up us use very was we with you
your co ltd
"""
_NUMBERS = """
one two three four five six seven eight nine ten
"""
# Words that turn a meaning round or draw a line: sugar free, over 50% juice, non chocolate, other onions.
_LIMITS = """
but excl free no non not over under without misc miscellaneous etc general various unknown other others range value
national private brand brands everyday regular standard mainstream premium
"""
_ANYTHING = "item items product products good goods need needs"
_MEASURES = """
oz ounce ounces lb lbs pound pounds g gr gm gram grams kg kilo mg ml cl l ltr litre litres liter liters ga gal
gallon gallons qt quart pt pint pints sq ft feet foot in inch inches cm mm m metre metres meter yd yard yards
w watt watts v volt volts hz ghz mhz gb tb mb kb mp mah x dia
"""
_COUNTS = """
ct count pk pkg pkgd pack packs packet packets pc pcs piece pieces ea each dozen doz dz pr pair pairs
"""
_PLAIN_SIZES = """
size sizes sized mini small medium large xl xxl xs extra big jumbo giant huge little tiny
"""
_PACKAGING = """
packaged multi-pack multi-packs multipack set sets bundle assorted asst asstd assortment variety bulk design designs
style styles type types colour colours color colors coloured colored
"""
_SHAPES = """
tall short long wide slim single singles double triple multi
"""
_CONTAINERS = """
box boxes boxed bag bags bagged bottle bottles can cans jar jars tube tubes roll rolls case cases cream rose
"""
_COLOURS = """
red blue green yellow orange purple violet pink black white grey gray brown beige ivory silver gold golden turquoise
teal navy aqua lilac mauve magenta cyan amber bronze copper burgundy maroon khaki
taupe fuchsia crimson scarlet indigo ecru multicolour multicolor multicoloured
"""
# Nouns that say nothing: "facial products" aren't facials.
ANYTHING = frozenset(_ANYTHING.split())
GRAMMAR = frozenset(_GRAMMAR.split())
NUMBERS = frozenset(_NUMBERS.split())
FUNCTION_WORDS = GRAMMAR | NUMBERS | frozenset(_LIMITS.split()) | ANYTHING
MEASURES = frozenset(_MEASURES.split())
COUNTS = frozenset(_COUNTS.split())
PLAIN_SIZES = frozenset(_PLAIN_SIZES.split())
PACKAGING = frozenset(_PACKAGING.split())
SIZES = MEASURES | COUNTS | PLAIN_SIZES | PACKAGING | frozenset(_SHAPES.split())
COLOURS = frozenset(_COLOURS.split())
# No name by themselves, but the last word of one: hot water bottle, lunch box, ice cream, tea rose.
ONLY_LAST = frozenset(_CONTAINERS.split())

_VOWELLESS_WORDS = frozenset(("cd", "cds", "dvd", "dvds", "pc", "pcs", "tv", "tvs", "cpu", "cpus"))
_LETTERS = re.compile(r"[^\W\d_](?:[^\W\d_]|[-\u0300-\u036f])*[^\W\d_]")
_VOWELLESS = re.compile(r"(?:^|-)[b-df-hj-np-tv-xz]{2,}(?:-|$)")
# cooked, smoked, boxed; not bed, seed, feed
_PARTICIPLE = re.compile(r"[^\W\d_]{2,}[^\W\d_e]ed")
_TOKEN = re.compile(r"\s+[-–—]+\s+|[-–—]+\s|\s[-–—]+|[:()\[\]]|[^\W_]+(?:[-.][^\W_]+)*|[^\w\s]")
_NOTE = re.compile(r"\s*[-–—]+\s+|\s+[-–—]+\s*|[:(\[]")


@dataclass(frozen=True)
class Mention:
    """A term in one product.

    Attributes
    ----------
    key
        Folded form, one or two words.
    surface
        The form as written, in lower case.
    last
        Whether it ends a phrase somewhere.
    plain
        Whether it stands outside notes somewhere.
    leads
        Whether the title begins with it.
    in_category
        Whether it stands in the category path.
    """

    key: str
    surface: str
    last: bool
    plain: bool
    leads: bool
    in_category: bool


def fold(word: str) -> str:
    """Fold simple English plurals: cookies = cookie, boxes = box, dishes = dish, cards = card; glass and bus stay."""
    word = re.sub(r"(?<=[^\W\d_]{2})(ies|ie)$", "y", word)
    word = re.sub(r"(?<=ch|sh|ss)es$", "", word)
    word = re.sub(r"(?<=[xz])es$", "", word)
    return re.sub(r"(?<=[^\W\d_]{2}[^sui\W\d_])s$", "", word)


def skeleton(word: str) -> str:
    """Return a word without vowels (but a leading one) and doubled letters: what a till leaves of it."""
    return word[:1] + re.sub(r"(.)\1+", r"\1", re.sub("[aeiouy]", "", word[1:]))


def is_squeezed(word: str, full: str) -> bool:
    """Whether a word is another one with syllables left out: cleang, cleaning.

    Not moth, mouth (as many syllables), nor phone, phoneeasy (a beginning), nor toys, tissue (other vowels).
    """
    if len(word) < 4 or full.startswith(word) or word[-1] != full[-1] or skeleton(word) != skeleton(full):
        return False
    letters = iter(full)
    return all(letter in letters for letter in word) and _n_syllables(word) < _n_syllables(full)


def _n_syllables(word: str) -> int:
    return len(re.findall("[aeiouy]+", re.sub("e?s?$", "", word)))


def is_participle(word: str) -> bool:
    """Whether an English word describes by its form: cooked, boxed."""
    return _PARTICIPLE.fullmatch(word) is not None


def mentions(title: str, category_path: Sequence[str] | None = None) -> list[Mention]:
    """Return every term of a product once."""
    found: dict[str, Mention] = {}
    for mention in _all_mentions(title, category_path or ()):
        before = found.get(mention.key)
        found[mention.key] = mention if before is None else _both(before, mention)
    return list(found.values())


def _both(first: Mention, second: Mention) -> Mention:
    return Mention(
        first.key,
        first.surface,
        first.last or second.last,
        first.plain or second.plain,
        first.leads or second.leads,
        first.in_category or second.in_category,
    )


def _all_mentions(title: str, category_path: Iterable[str]) -> Iterator[Mention]:
    yield from _mentions_of(title, in_category=False)
    for level in category_path:
        yield from _mentions_of(level or "", in_category=True)


def _mentions_of(text: str, *, in_category: bool) -> Iterator[Mention]:
    # Apostrophes join: "men's" is one word.
    # A letter three times in a row is a slip: suppplies.
    plain = re.sub(r"([^\W\d_])\1{2,}", r"\1\1", re.sub("['’`´]", "", (text or "").lower()))
    tokens = _TOKEN.findall(plain)
    in_note = False
    for place, token in enumerate(tokens):
        if _NOTE.fullmatch(token):
            in_note = True
        if not (_is_word(token) or token in ONLY_LAST):
            continue
        # A word in a note may end its phrase, but "Fruit - shelf stable" is no kind of stable.
        leads = place == 0 and not in_category
        outside = not in_note
        following = tokens[place + 1] if place + 1 < len(tokens) else ""
        last = _ends_phrase(tokens, place, leads=leads)
        if token not in ONLY_LAST:
            yield Mention(fold(token), token, last, outside, leads, in_category)
            if (_is_word(following) or following in ONLY_LAST) and fold(following) != fold(token):
                key, surface = f"{fold(token)} {fold(following)}", f"{token} {following}"
                yield Mention(key, surface, _ends_phrase(tokens, place + 1, leads=leads), outside, leads, in_category)


def _ends_phrase(tokens: Sequence[str], place: int, *, leads: bool) -> bool:
    """Whether no word follows; colours in between don't count: "retrospot red bowl" is a bowl."""
    if _describes_anything(tokens, place) or _precedes_model(tokens, place, leads=leads):
        return False
    for token in tokens[place + 1 :]:
        if token not in COLOURS:
            return not (_is_word(token) or token in ONLY_LAST)
    return True


def _precedes_model(tokens: Sequence[str], place: int, *, leads: bool) -> bool:
    """Whether a model's number follows, such as 80d, or 8 at a title's beginning ("nokia 8"), and no size such as 125g.

    The word is the name of a series then, not of a thing.
    """
    number = tokens[place + 1] if place + 1 < len(tokens) else ""
    letters = re.sub(r"[\d.]+", "", number)
    if letters == number:
        return False
    if letters:
        return letters not in SIZES
    return leads and tokens[place + 2 : place + 3] != [] and tokens[place + 2] not in SIZES


def _describes_anything(tokens: Sequence[str], place: int) -> bool:
    """Whether a word by itself describes what says nothing: hand, body and facial in "hand/body/facial products"."""
    if place and _is_word(tokens[place - 1]) and not is_participle(tokens[place - 1]):
        return False
    for at in range(place + 1, len(tokens)):
        if tokens[at] in ANYTHING:
            return tokens[at - 1] != "/"
        alone = tokens[at - 1] == "/" and _is_word(tokens[at])
        if tokens[at] != "/" and not alone:
            return False
    return False


def _is_model(token: str) -> bool:
    """Whether a token is a model's number such as s9 or 80d, and no size such as 125g: its word describes."""
    digits = re.sub(r"[\d.]+", "", token)
    return bool(digits) and digits != token and digits not in SIZES


def _is_word(token: str) -> bool:
    """Whether a token may be part of a name: two letters or more, no digit, no stop word, no till abbreviation.

    A part in Latin letters without a vowel is an abbreviation such as "frzn" or "sft drnk", which no sign would carry.
    """
    if not _LETTERS.fullmatch(token) or token in FUNCTION_WORDS or token in SIZES or token in COLOURS:
        return False
    return token not in ONLY_LAST and (token in _VOWELLESS_WORDS or not _VOWELLESS.search(token))
