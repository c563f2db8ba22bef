"""How much of a cluster its name tells: the share of its products whose texts hold a part of the name.

A cluster of all sorts has a name that few of its products carry, and so has one whose content drifted since it was
named; this figure tells them from the others. It says nothing of a chat model's synonyms: "Dairy" for milk.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from shelfkin.naming.abbreviations import FullForms
from shelfkin.naming.phrases import folded_words
from shelfkin.naming.product_texts import ProductText


def name_shares(texts: Sequence[ProductText], names: Mapping[int, str], spelt: FullForms) -> dict[int, float]:
    """Return, for each cluster, the share of its products that carry its name, in [0, 1].

    A product does if its title and category path hold all words of one part of the name, plurals folded.

    Parameters
    ----------
    texts
        Texts of all clusters.
    names
        Name of each cluster.
    spelt
        By cluster, the full forms of abbreviations.
    """
    wanted = {cluster: name_parts(name) for cluster, name in names.items()}
    n, n_named = Counter[int](), Counter[int]()
    for text in texts:
        words = folded_words(text, spelt.get(text.cluster_id, {}))
        n[text.cluster_id] += text.n_products
        n_named[text.cluster_id] += text.n_products * any(part and part <= words for part in wanted[text.cluster_id])
    return {cluster: n_named[cluster] / n[cluster] for cluster in n}


def name_parts(name: str) -> list[set[str]]:
    """Return the folded words of each part: "Dog & Cat Foods" is for what says dog, or cat and food."""
    return [folded_words(ProductText(0, part)) for part in re.split(r", | & ", name)]
