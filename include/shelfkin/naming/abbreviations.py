"""What a till's abbreviations stand for, from the cluster's own words: drnk is drinks where "soft drinks" are sold.

A word without vowels, or with syllables left out, is spelt out as a word with the same consonants in the same order
(`english.is_short_for`): one that its own cluster uses, else, for abbreviations of `MIN_LETTERS_ELSEWHERE` letters or
more, one of the whole catalogue. So no dictionary is needed, and a shop that doesn't abbreviate has nothing spelt out.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from shelfkin.language import english
from shelfkin.naming.phrases import letter_words
from shelfkin.naming.product_texts import ProductText

# By cluster: what a short word stands for.
FullForms = dict[int, dict[str, str]]

# A rarer abbreviation can't make a name.
MIN_SHARE = 0.02
# Three consonants fit too many words of a catalogue: cnt is count, cent and coconut.
MIN_LETTERS_ELSEWHERE = 4
# Rarer than so, beside the short form, a longer one is a slip of the pen: galass for glass.
MIN_SHARE_OF_SHORT = 0.05


def full_forms(texts: Sequence[ProductText]) -> FullForms:
    """Return, for each cluster, the full forms of its abbreviations."""
    sizes: Counter[int] = Counter()
    here: defaultdict[int, Counter[str]] = defaultdict(Counter)
    everywhere: Counter[str] = Counter()
    for text in texts:
        sizes[text.cluster_id] += text.n_products
        for word in letter_words(text):
            here[text.cluster_id][word] += text.n_products
            everywhere[word] += text.n_products
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for word in everywhere:
        alike[english.consonants(english.fold(word))].append(word)
    return {
        cluster: {
            short: full
            for short, n in counts.items()
            if n >= MIN_SHARE * sizes[cluster] and short not in english.NAMELESS
            for full in [_full_form(short, alike[english.consonants(english.fold(short))], counts, everywhere)]
            if full is not None
        }
        for cluster, counts in here.items()
    }


def _full_form(short: str, alike: Sequence[str], here: Mapping[str, int], everywhere: Mapping[str, int]) -> str | None:
    """Return what a cluster's word is short for, of the words with the same consonants; None where it is none."""
    able = {word: everywhere[word] for word in alike if english.is_short_for(short, word)}
    own = {word: n for word, n in able.items() if here.get(word, 0) >= MIN_SHARE_OF_SHORT * here[short]}
    if own:
        return best_full_form(short, own)
    clear = english.is_consonants(short) and len(short) >= MIN_LETTERS_ELSEWHERE
    return best_full_form(short, able) if able and clear else None


def best_full_form(short: str, uses: Mapping[str, int]) -> str:
    """Return the candidate that the catalogue uses most: the plural of the word where the short form is a plural."""
    whole = [word for word in uses if not _is_short_itself(word, uses)]
    by_word: Counter[str] = Counter()
    for word in whole:
        by_word[english.fold(word)] += uses[word]
    best = max(by_word, key=lambda folded: (by_word[folded], folded))
    forms = [word for word in whole if english.fold(word) == best]
    return max(forms, key=lambda word: (english.is_plural(word) == english.is_plural(short), uses[word], word))


def _is_short_itself(word: str, uses: Mapping[str, int]) -> bool:
    """Whether a candidate is an abbreviation of another one: mnrl isn't mneral, but mineral."""
    least = MIN_SHARE_OF_SHORT * uses[word]
    return any(english.is_short_for(word, other) and n >= least for other, n in uses.items())
