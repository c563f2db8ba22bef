"""Names for clusters, readable as an aisle sign: class-based TF-IDF over titles and category terms.

A cluster's products are taken as one document (Grootendorst, 2022, "BERTopic: Neural topic modeling with a class-based
TF-IDF procedure", eq. 2). Here the frequency of a term is the share of the cluster's products that carry it, so that a
large cluster counts no more than a small one and a word repeated in one title counts once:

    score(t, c) = share(t, c) * log(1 + 1 / sum of share(t, c') over all clusters c')

Terms are words and pairs of neighbouring words, with case and simple plurals folded. Numbers, units, sizes, colours,
packaging words and anything with a digit (SKU codes) are no terms, and no pair reaches across them or across
punctuation. Spark counts terms; the driver holds `TERMS_PER_CLUSTER` rows per cluster.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812 - the name every PySpark reader knows

TERMS_PER_CLUSTER = 40

# A term on fewer than 2% of a cluster's products can't name it; leaving it out keeps the shuffle small.
MIN_SHARE = 0.02

N_TOP_TERMS = 10
N_REPRESENTATIVES = 5
MAX_NAME_CHARS = 48
MIN_PREFIX = 3

# A pair of words replaces one of its words when it covers most of that word's products: "greeting card" for "greeting".
PAIR_COVERS = 0.6

# Further terms join a name only if they come near the first one in score.
JOIN_SCORE = 0.45

# One term that stands on so many of the products needs no second.
ENOUGH_SHARE = 0.9

_FUNCTION_WORDS = """
a about all also an and any are as at be best but by can do each for free from get has have if in inc incl into is it
its more my new no non not of off on one only or other our out over per so than that the their them this to too two
three four five six seven eight nine ten up us use very was we with without you your co ltd misc miscellaneous etc
general various unknown other others item items product products goods range value national private brand
"""
_SIZES_AND_PACKS = """
oz ounce ounces lb lbs pound pounds g gr gm gram grams kg kilo mg ml cl l ltr litre litres liter liters gal gallon
gallons qt quart pt pint pints ct count pk pkg pack packs packet packets pc pcs piece pieces ea each dozen doz pr pair
pairs sq ft feet foot in inch inches cm mm m metre metres meter yd yard yards w watt watts v volt volts hz ghz mhz gb tb
mb kb mp mah x by dia set sets bundle size sizes sized mini small medium large xl xxl xs extra big jumbo giant huge tall
short long wide slim little tiny regular single double triple multi multipack assorted asst asstd assortment variety
design designs style styles type types colour colours color colors coloured colored box boxed boxes bag bagged bottle
bottles btl can cans jar jars tube roll rolls case
"""
_COLOURS = """
red blue green yellow orange purple violet pink black white grey gray brown beige cream ivory silver gold golden
turquoise teal navy aqua lilac mauve magenta cyan amber bronze copper multicolour multicolor multicoloured rose
"""
# Whole words only; a name of two words such as "orange juice" keeps "juice".
STOP_WORDS = frozenset(f"{_FUNCTION_WORDS} {_SIZES_AND_PACKS} {_COLOURS}".split())

_VOWELLESS_WORDS = ("cd", "cds", "dvd", "dvds", "pc", "tv", "tvs", "t-shirt", "t-shirts", "t-light", "t-lights")


@dataclass(frozen=True)
class Term:
    """A candidate for a cluster's name.

    Attributes
    ----------
    key
        Folded form, one or two words.
    surface
        The form to show: the most frequent one of the cluster, the plural where it is in use.
    share
        Share of the cluster's products that carry it, in (0, 1].
    score
        Class-based TF-IDF.
    """

    key: str
    surface: str
    share: float
    score: float


def term_scores(products: DataFrame) -> DataFrame:
    """Return the best terms of every cluster.

    Parameters
    ----------
    products
        Columns cluster_id, title and category_path (array<string>, may be null); one row per product.

    Returns
    -------
    DataFrame
        cluster_id, rank (from 1), key, surface, share, score: at most `TERMS_PER_CLUSTER` rows per cluster.
    """
    texts = products.groupBy("cluster_id", "title", "category_path").agg(F.count("*").alias("n"))
    sizes = texts.groupBy("cluster_id").agg(F.sum("n").alias("size"))
    surfaces = (
        texts.select("cluster_id", "n", F.explode(_terms(F.col("title"), F.col("category_path"))).alias("term"))
        .groupBy("cluster_id", F.col("term.key").alias("key"), F.col("term.surface").alias("surface"))
        .agg(F.sum("n").alias("n"))
    )
    shares = (
        _shown_forms(surfaces)
        .join(F.broadcast(sizes), "cluster_id", "inner")
        .select("cluster_id", "key", "surface", (F.col("n") / F.col("size")).alias("share"))
        .where(F.col("share") >= MIN_SHARE)
    )
    # Rounded, so that the order in which partitions are added up can't reorder terms.
    everywhere = shares.groupBy("key").agg(F.round(F.sum("share"), 9).alias("everywhere"))
    score = F.round(F.col("share") * F.log1p(1 / F.col("everywhere")), 9)
    best_first = Window.partitionBy("cluster_id").orderBy(F.col("score").desc(), F.col("key"))
    return (
        shares.join(everywhere, "key", "inner")
        .withColumn("score", score)
        .withColumn("rank", F.row_number().over(best_first))
        .where(F.col("rank") <= TERMS_PER_CLUSTER)
        .select("cluster_id", "rank", "key", "surface", "share", "score")
    )


def _shown_forms(surfaces: DataFrame) -> DataFrame:
    """Add up the forms of each folded term and keep one to show: a plural that is in use, else the most frequent.

    A sign says "Candles", though most titles say "candle".
    """
    per_term = Window.partitionBy("cluster_id", "key")
    in_use = F.col("n") * 10 >= F.sum("n").over(per_term)
    is_plural = F.length("surface") > F.length("key")
    preferred = per_term.orderBy((is_plural & in_use).desc(), F.col("n").desc(), F.col("surface"))
    return (
        surfaces.withColumn("total", F.sum("n").over(per_term))
        .withColumn("place", F.row_number().over(preferred))
        .where(F.col("place") == 1)
        .select("cluster_id", "key", "surface", F.col("total").alias("n"))
    )


def _terms(title: Column, category_path: Column) -> Column:
    """Return array<struct<key, surface>> of a product's terms, each folded term once, in its first form."""
    no_path = F.array().cast("array<string>")
    segments = F.concat(F.array(title), F.coalesce(category_path, no_path))
    text = F.lower(F.array_join(segments, " | "))
    text = F.regexp_replace(text, "['’`´]", "")
    text = F.regexp_replace(text, r"[^\p{L}\p{M}\p{N}\s-]+", " | ")
    text = F.regexp_replace(text, r"(?<![\p{L}\p{M}\p{N}])-+|-+(?![\p{L}\p{M}\p{N}])", " | ")
    words = F.transform(F.split(text, r"\s+"), lambda word: F.when(_is_word(word), _term(_fold(word), word)))
    return _let(_let(words, _singles_and_pairs), _first_of_each_key)


def _let(value: Column, body: Callable[[Column], Column]) -> Column:
    """Return `body` of `value`, computed once: a lambda that names a column expression repeats it per element."""
    return F.transform(F.array(value), body)[0]


def _term(key: Column, surface: Column) -> Column:
    return F.struct(key.alias("key"), surface.alias("surface"))


def _singles_and_pairs(words: Column) -> Column:
    """Return the words that aren't null, then pairs of neighbours of which neither is."""
    following = F.slice(words, F.lit(2), F.greatest(F.size(words) - 1, F.lit(0)))
    pairs = F.zip_with(
        words,
        following,
        lambda first, second: F.when(
            first.isNotNull() & second.isNotNull() & (first["key"] != second["key"]),
            _term(F.concat_ws(" ", first["key"], second["key"]), F.concat_ws(" ", first["surface"], second["surface"])),
        ),
    )
    return F.filter(F.concat(words, pairs), lambda term: term.isNotNull())


def _first_of_each_key(terms: Column) -> Column:
    return _let(
        F.struct(terms.alias("terms"), F.transform(terms, lambda term: term["key"]).alias("keys")),
        lambda both: F.filter(
            both["terms"], lambda term, place: F.array_position(both["keys"], term["key"]) == place + 1
        ),
    )


def _is_word(word: Column) -> Column:
    """Whether a token may be part of a name: two letters or more, no digit, no stop word, no till abbreviation.

    A part in Latin letters without a vowel is an abbreviation such as "frzn" or "sft drnk", which no sign would carry.
    """
    letters = word.rlike(r"^\p{L}[\p{L}\p{M}-]*[\p{L}\p{M}]$")
    abbreviated = word.rlike(r"(^|-)[b-df-hj-np-tv-xz]+(-|$)") & ~word.isin(*_VOWELLESS_WORDS)
    return letters & ~abbreviated & ~word.isin(sorted(STOP_WORDS))


def _fold(word: Column) -> Column:
    """Fold simple English plurals: cookies = cookie, boxes = box, dishes = dish, cards = card; glass and bus stay."""
    folded = F.regexp_replace(word, r"(?<=\p{L}{2})(ies|ie)$", "y")
    folded = F.regexp_replace(folded, r"(?<=ch|sh|x|z|ss)es$", "")
    return F.regexp_replace(folded, r"(?<=\p{L}{2}[^sui])s$", "")


def representatives(products: DataFrame) -> DataFrame:
    """Return the products nearest to each centroid, no two of which differ in numbers only.

    Parameters
    ----------
    products
        Columns cluster_id, product_id, title, distance.

    Returns
    -------
    DataFrame
        cluster_id, representative_product_ids (array<string>, nearest first, at most `N_REPRESENTATIVES`). Equal
        distances go to the lower product_id.
    """
    letters = F.trim(F.regexp_replace(F.lower("title"), r"[^\p{L}]+", " "))
    nearest = products.groupBy("cluster_id", letters.alias("letters")).agg(
        F.min(F.struct("distance", "product_id")).alias("nearest")
    )
    place = Window.partitionBy("cluster_id").orderBy("nearest")
    return (
        nearest.withColumn("place", F.row_number().over(place))
        .where(F.col("place") <= N_REPRESENTATIVES)
        .groupBy("cluster_id")
        .agg(F.sort_array(F.collect_list(F.struct("place", "nearest.product_id"))).alias("found"))
        .select("cluster_id", F.col("found.product_id").alias("representative_product_ids"))
    )


def collect_terms(scores: DataFrame) -> dict[int, list[Term]]:
    """Return the rows of `term_scores` on the driver: best terms first, per cluster."""
    found: dict[int, list[Term]] = {}
    for row in scores.orderBy("cluster_id", "rank").collect():
        term = Term(row["key"], row["surface"], float(row["share"]), float(row["score"]))
        found.setdefault(int(row["cluster_id"]), []).append(term)
    return found


def top_terms(terms: Sequence[Term]) -> list[str]:
    """Return the forms of the best terms, at most `N_TOP_TERMS`, without words that a better pair already holds."""
    return [term.surface for term in _without_overlap(terms)[:N_TOP_TERMS]]


def name_clusters(
    terms: Mapping[int, Sequence[Term]], order: Sequence[int], kept_names: Mapping[int, str] | None = None
) -> dict[int, str]:
    """Name clusters, no two alike.

    Parameters
    ----------
    terms
        Best terms of each cluster; a cluster without letters in its titles may have none.
    order
        Cluster ids, those first that should get their first choice: the largest.
    kept_names
        Names that stay from the day before.

    Returns
    -------
    dict
        Name of each cluster of `order`.
    """
    kept = dict(kept_names or {})
    names = {cluster: kept[cluster] for cluster in order if cluster in kept}
    taken = {name.casefold() for name in names.values()}
    for cluster in order:
        if cluster in names:
            continue
        name = next(name for name in _candidates(terms.get(cluster, ())) if name.casefold() not in taken)
        names[cluster] = name
        taken.add(name.casefold())
    return names


def _candidates(terms: Sequence[Term]) -> list[str]:
    """Return ever longer names, ending with numbered ones that can't all be taken."""
    parts = _without_overlap(terms)
    if not parts:
        return [f"Assorted {number}" for number in range(1, 10_001)]
    n_wanted = _n_parts(parts)
    names = [_sign(parts[:n]) for n in range(n_wanted, max(n_wanted, min(4, len(parts))) + 1)]
    # Two clusters of the same words: the second says what it has besides.
    names += [_sign([parts[0], other]) for other in parts[n_wanted:]]
    return names + [f"{names[0]} {number}" for number in range(2, 10_001)]


def _n_parts(parts: Sequence[Term]) -> int:
    """Return how many terms the name needs: one if it says enough, at most three."""
    first = parts[0]
    if first.share >= ENOUGH_SHARE:
        return 1
    n_parts, covered = 1, first.share
    for term in parts[1:3]:
        if term.score < JOIN_SCORE * first.score or covered >= ENOUGH_SHARE:
            break
        n_parts, covered = n_parts + 1, covered + term.share
        if n_parts == 2 and covered > 0.5:
            break
    return n_parts


def _without_overlap(terms: Sequence[Term]) -> list[Term]:
    """Return terms, best first, in which no word comes twice; a pair stands in for a word that it mostly covers."""
    chosen: list[Term] = []
    seen: set[str] = set()
    for term in terms:
        best = _widened(term, terms)
        words = set(re.split(r"[\s-]+", best.key))
        if not any(_alike(word, other) for word in words for other in seen):
            chosen.append(best)
            seen |= words
    return chosen


def _alike(word: str, other: str) -> bool:
    """Whether one word is the other or an abbreviation of it: fem, feminine; mirror, mirrored."""
    shorter, longer = sorted((word, other), key=len)
    return shorter == longer or (len(shorter) >= MIN_PREFIX and longer.startswith(shorter))


def _widened(term: Term, terms: Sequence[Term]) -> Term:
    if " " in term.key:
        return term
    pairs = [
        pair
        for pair in terms
        if " " in pair.key and term.key in pair.key.split() and pair.share >= PAIR_COVERS * term.share
    ]
    return max(pairs, key=lambda pair: (pair.share, pair.key)) if pairs else term


def _sign(parts: Sequence[Term]) -> str:
    words = [_title_case(part.surface) for part in parts]
    name = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} & {words[-1]}"
    return name if len(name) <= MAX_NAME_CHARS else name[: MAX_NAME_CHARS - 1].rstrip() + "…"


def _title_case(text: str) -> str:
    # str.title() would make "Men'S" and "T-Light"; only the first letter of each word changes here.
    return " ".join(word[:1].upper() + word[1:] for word in text.split())
