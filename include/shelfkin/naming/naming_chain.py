"""All steps from the texts of clusters to their names; the package's head lists them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shelfkin.naming.abbreviations import FullForms, full_forms
from shelfkin.naming.cluster_names import name_clusters, top_terms
from shelfkin.naming.ctfidf import cluster_terms
from shelfkin.naming.name_share import name_shares
from shelfkin.naming.product_texts import ProductText
from shelfkin.naming.truncated_titles import without_fragments


@dataclass(frozen=True)
class ClusterNames:
    """Names of clusters, by cluster id.

    Attributes
    ----------
    names
        No two alike.
    top_terms
        The terms that set a cluster apart, best first; maybe none.
    texts, spelt
        What the names were made of, to count the products that carry them.
    """

    names: Mapping[int, str]
    top_terms: Mapping[int, Sequence[str]]
    texts: Sequence[ProductText]
    spelt: FullForms

    def shares(self, names: Mapping[int, str] | None = None) -> dict[int, float]:
        """Return the share of each cluster's products that carry its name, or the one given instead."""
        return name_shares(self.texts, names or self.names, self.spelt)


def run_chain(
    texts: Sequence[ProductText], order: Sequence[int], kept_names: Mapping[int, str] | None = None
) -> ClusterNames:
    """Name clusters from their texts.

    Parameters
    ----------
    texts
        Texts of all clusters, from `product_texts.collect_product_texts`.
    order
        Cluster ids, the largest first.
    kept_names
        Names that stay from the day before.
    """
    whole = without_fragments(texts)
    spelt = full_forms(whole)
    terms = cluster_terms(whole, spelt)
    names = name_clusters(terms, order, kept_names)
    return ClusterNames(names, {cluster: top_terms(terms.get(cluster, ())) for cluster in order}, texts, spelt)
