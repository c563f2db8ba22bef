"""Class-based TF-IDF of the words and pairs of words of every cluster.

A cluster's products are taken as one document (Grootendorst, 2022, "BERTopic: Neural topic modeling with a class-based
TF-IDF procedure", eq. 2). Here the frequency of a term is the share of the cluster's products that carry it, so that a
large cluster counts no more than a small one and a word repeated in one title counts once:

    score(t, c) = share(t, c) * log(1 + 1 / sum of share(t, c') over all clusters c')

Beside the score, counts say how a term is used (`phrases.Mention`), and how often two terms of a cluster stand on one
product.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from shelfkin.naming.abbreviations import FullForms
from shelfkin.naming.phrases import mentions
from shelfkin.naming.product_texts import ProductText

TERMS_PER_CLUSTER = 40

# A term on fewer than 2% of a cluster's products can't name it.
MIN_SHARE = 0.02

# A plural that one use in a hundred has is shown: a sign says "Candles", though most titles say "candle".
MIN_PLURAL_SHARE = 0.01

# Uses of a term that are counted within its cluster.
_USES = ("plain", "leads", "model", "category", "brand")


@dataclass(frozen=True)
class Term:
    """A word or pair of words of a cluster. Shares are of the cluster's products, in [0, 1].

    Attributes
    ----------
    key
        Folded form, one or two words.
    surface
        The form to show: the plural where it is in use, else the most frequent one.
    share
        Share of products that carry it.
    score
        Class-based TF-IDF.
    last
        Of its uses in all clusters, the share that ends a phrase.
    plain, leads, model, category, brand
        Of its uses in this cluster, the shares outside notes, at a title's beginning, before a model's number, in the
        category path, and in the product's own brand.
    everywhere
        Sum of its shares over all clusters.
    together
        Share of products that carry both this term and another one, by key, where that isn't 0.
    """

    key: str
    surface: str
    share: float
    score: float
    last: float = 1.0
    plain: float = 1.0
    leads: float = 0.0
    model: float = 0.0
    category: float = 0.0
    brand: float = 0.0
    everywhere: float = 0.0
    together: Mapping[str, float] = field(default_factory=dict)


class ClusterCounts:
    """What the texts of one cluster hold.

    Attributes
    ----------
    size
        Products of the cluster.
    uses
        By key, on how many products each term stands (``n``), in which ways (see `phrases.Mention`), and for how many
        it is their own brand (``brand``).
    forms
        By key, how many products carry each written form.
    """

    def __init__(self, texts: Sequence[ProductText], spelt: Mapping[str, str]) -> None:
        self.size = 0
        self.uses: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.forms: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._keys_of_texts: list[tuple[int, set[str]]] = []
        for text in texts:
            self._add(text, spelt)

    def _add(self, text: ProductText, spelt: Mapping[str, str]) -> None:
        n = text.n_products
        brand_keys = {mention.key for mention in mentions(ProductText(text.cluster_id, text.brand))}
        of_text = mentions(text, spelt)
        for mention in of_text:
            uses = self.uses[mention.key]
            for use in ("n", *mention.uses):
                uses[use] += n
            uses["brand"] += n * (mention.key in brand_keys)
            self.forms[mention.key][mention.surface] += n
        self.size += n
        self._keys_of_texts.append((n, {mention.key for mention in of_text}))

    def frequent(self) -> dict[str, Counter[str]]:
        """Return the terms on at least `MIN_SHARE` of the products."""
        return {key: uses for key, uses in self.uses.items() if uses["n"] >= MIN_SHARE * self.size}

    def together(self, keys: Sequence[str]) -> dict[str, dict[str, float]]:
        """Return, for each of some terms, the share of products that carry it together with each other one."""
        counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        wanted = set(keys)
        for n, keys_of_text in self._keys_of_texts:
            here = wanted & keys_of_text
            for key in here:
                for other in here:
                    counts[key][other] += n
        return {key: {other: n / self.size for other, n in counts[key].items() if other != key} for key in keys}


def cluster_terms(texts: Sequence[ProductText], spelt: FullForms) -> dict[int, list[Term]]:
    """Return at most `TERMS_PER_CLUSTER` terms of every cluster, best first; none where no title has a word.

    Parameters
    ----------
    texts
        Texts of all clusters.
    spelt
        By cluster, the full forms of abbreviations.
    """
    by_cluster: defaultdict[int, list[ProductText]] = defaultdict(list)
    for text in texts:
        by_cluster[text.cluster_id].append(text)
    counts = {cluster: ClusterCounts(of_cluster, spelt.get(cluster, {})) for cluster, of_cluster in by_cluster.items()}
    everywhere, last, forms = _over_all_clusters(counts.values())
    shown = {key: _shown_form(key, forms[key]) for key in everywhere}
    return {cluster: _best_terms(of_cluster, everywhere, last, shown) for cluster, of_cluster in counts.items()}


def _over_all_clusters(
    counts: Collection[ClusterCounts],
) -> tuple[dict[str, float], dict[str, float], dict[str, Counter[str]]]:
    """Return, by key, the sum of shares, the share of uses that end a phrase, and how often each form is written."""
    everywhere: defaultdict[str, float] = defaultdict(float)
    n, n_last = Counter[str](), Counter[str]()
    forms: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for of_cluster in counts:
        for key, uses in of_cluster.frequent().items():
            everywhere[key] += uses["n"] / of_cluster.size
            n[key] += uses["n"]
            n_last[key] += uses["last"]
        for key, of_key in of_cluster.forms.items():
            forms[key].update(of_key)
    # Rounded, so that the order in which shares are added up can't reorder terms.
    return {key: round(total, 9) for key, total in everywhere.items()}, {key: n_last[key] / n[key] for key in n}, forms


def _shown_form(key: str, forms: Mapping[str, int]) -> str:
    """Return the form of a folded term to show: a plural that is in use, else the most frequent form."""
    least = MIN_PLURAL_SHARE * sum(forms.values())
    return min(forms, key=lambda form: (not (len(form) > len(key) and forms[form] >= least), -forms[form], form))


def _best_terms(
    counts: ClusterCounts, everywhere: Mapping[str, float], last: Mapping[str, float], shown: Mapping[str, str]
) -> list[Term]:
    """Return the terms of one cluster by falling score."""
    uses_of, size = counts.frequent(), counts.size
    scores = {key: round(uses["n"] / size * math.log1p(1 / everywhere[key]), 9) for key, uses in uses_of.items()}
    best = sorted(scores, key=lambda key: (-scores[key], key))[:TERMS_PER_CLUSTER]
    together = counts.together(best)
    return [
        Term(
            key=key,
            surface=shown[key],
            share=uses["n"] / size,
            score=scores[key],
            last=last[key],
            everywhere=everywhere[key],
            together=together[key],
            **{use: uses[use] / uses["n"] for use in _USES},
        )
        for key, uses in ((key, uses_of[key]) for key in best)
    ]
