"""Near-identical products: one product in other sizes, colours or packs, grouped so that a list shows it once.

Texts may be variants when their names are the same but for sizes and colours, or when they share a model number
(`variant_names`); a high cosine must agree. A group has a middle that every member was compared with, so that no chain
of small steps joins what is different at its ends.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from heapq import heapify, heappop, heappush
from itertools import combinations

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.profile import Recommending
from shelfkin.recommending.catalogue import Catalogue
from shelfkin.recommending.nearest import exact_cosines
from shelfkin.recommending.variant_names import variant_name

# What stands in more names than this is no model number but a property: lga1155, 1080p.
MAX_NAMES_PER_CODE = 20
# A long code that begins with another is the same model for another country: ue55mu6200, ue55mu6200kxxu.
_MIN_ROOT_LENGTH = 8
# Two offers of a model are worded as their sellers please; what is below has only the number in common by chance.
MIN_COSINE_OF_A_MODEL = 0.4
# Names that are alike only as words fall apart into a few groups; what is left after so many stays alone.
_MAX_SPLITS = 20


def grouped(catalogue: Catalogue, middle_of: np.ndarray) -> Catalogue:
    """Return the catalogue with groups of texts, each as far from others as its middle.

    Parameters
    ----------
    catalogue
        The products.
    middle_of
        Result of `find_variants`.
    """
    hashes = np.empty(catalogue.n_texts, dtype=object)
    hashes[catalogue.texts] = catalogue.rows["text_hash"]
    middles, groups = np.unique(middle_of[catalogue.texts], return_inverse=True)
    return replace(
        catalogue,
        rows=catalogue.rows.assign(group_text_hash=hashes[middles][groups]),
        groups=groups,
        group_vectors=catalogue.vectors[middles[middles < len(catalogue.vectors)]],
    )


def variant_rows(catalogue: Catalogue) -> pd.DataFrame:
    """Return the rows of ``product_variants``: products of groups that hold more than one text.

    A group is named after the lowest of its product ids, which stays the same while its products do.
    """
    rows = catalogue.rows[["product_id", "text_hash", "group_text_hash"]]
    by_group = rows.groupby("group_text_hash", sort=False)
    rows = rows.assign(variant_group=by_group["product_id"].transform("min"))
    rows = rows[by_group["text_hash"].transform("nunique") > 1]
    return rows[["product_id", "variant_group"]].sort_values(["variant_group", "product_id"], ignore_index=True)


def find_variants(products: DataFrame, catalogue: Catalogue, settings: Recommending) -> np.ndarray:
    """Return the middle of each text's group, (n_texts,) int64; each text alone where the settings want no variants.

    Names are made in Spark; keys and model numbers of all texts, some 100 bytes each, come to the driver.

    Parameters
    ----------
    products
        Contract table ``products``, from which `catalogue` was read.
    catalogue
        The products.
    settings
        Of the profile.
    """
    if not settings.variants:
        return np.arange(catalogue.n_texts)
    by_colour = settings.variants_by_colour

    schema = pa.schema({"product_id": pa.string(), "key": pa.string(), "codes": pa.list_(pa.string())})

    def name(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            rows = [
                {
                    "product_id": row["product_id"],
                    **vars(variant_name(row["title"] or "", row["brand"], by_colour=by_colour)),
                }
                for row in batch.to_pylist()
            ]
            yield pa.RecordBatch.from_pylist(rows, schema=schema)

    first = F.min_by(F.struct("product_id", "title", "brand"), "product_id").alias("first")
    one_a_text = products.groupBy("text_hash").agg(first).select("first.*")
    table = one_a_text.mapInArrow(name, "product_id string, key string, codes array<string>").toArrow()
    items = pd.Index(catalogue.product_ids).get_indexer(pd.Index(table.column("product_id").to_pylist()))
    keys, codes = [""] * catalogue.n_texts, [()] * catalogue.n_texts
    for text, key, own in zip(
        catalogue.texts[items], table.column("key").to_pylist(), table.column("codes").to_pylist(), strict=True
    ):
        keys[text], codes[text] = key, tuple(own)
    return group_texts(keys, codes, catalogue.vectors, settings.variants_min_cosine)


def group_texts(
    keys: Sequence[str], codes: Sequence[tuple[str, ...]], vectors: np.ndarray, min_cosine: float
) -> np.ndarray:
    """Group texts by name and model number; return the text in the middle of each one's group, (n_texts,) int64.

    Of equally good middles the lower text number is taken: texts are to come in an order that is always the same, such
    as that of their hashes.

    Parameters
    ----------
    keys, codes
        Per text, as in `variant_names.VariantName`.
    vectors
        (n_vectors, d) float32, unit norm, of the first texts; the others are alone.
    min_cosine
        Least cosine of a text to the middle of the texts of the same name.
    """
    middle_of = np.arange(len(keys))
    for texts in _same(keys[: len(vectors)]):
        for middle, members in _stars(texts, vectors, min_cosine):
            middle_of[members] = middle
    names = np.flatnonzero(middle_of == np.arange(len(keys)))
    names = names[names < len(vectors)]
    centre_of = np.arange(len(keys))
    for one, other in _same_model(names, codes, vectors):
        centre_of[other] = one
    return centre_of[middle_of]


def _same(keys: Sequence[str]) -> Iterator[np.ndarray]:
    """Yield the texts of each key that several have, rising."""
    texts_of: dict[str, list[int]] = defaultdict(list)
    for text, key in enumerate(keys):
        if key:
            texts_of[key].append(text)
    yield from (np.array(texts) for texts in texts_of.values() if len(texts) > 1)


def _stars(texts: np.ndarray, vectors: np.ndarray, min_cosine: float) -> Iterator[tuple[int, np.ndarray]]:
    """Yield groups of texts around the one nearest to their mean, and again of those that lie too far from it."""
    for _ in range(_MAX_SPLITS):
        mean = vectors[texts].astype(np.float64).mean(axis=0)
        middle = texts[np.argmax(exact_cosines(vectors, texts, mean))]
        near = exact_cosines(vectors, texts, vectors[middle]) >= min_cosine
        near |= texts == middle
        yield int(middle), texts[near]
        texts = texts[~near]
        if len(texts) < 2:
            return


def _same_model(names: np.ndarray, codes: Sequence[tuple[str, ...]], vectors: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield (centre, member) for names that share a model number: stars again, the most linked name first."""
    links: dict[int, set[int]] = defaultdict(set)
    for one, other in _links(names, codes):
        if exact_cosines(vectors, np.array([one]), vectors[other])[0] >= MIN_COSINE_OF_A_MODEL:
            links[one].add(other)
            links[other].add(one)
    queue = [(-len(others), name) for name, others in links.items()]
    heapify(queue)
    taken: set[int] = set()
    while queue:
        n_links, centre = heappop(queue)
        free = links[centre] - taken
        if centre in taken or not free:
            continue
        if len(free) < -n_links:  # others were taken meanwhile: back in line
            heappush(queue, (-len(free), centre))
            continue
        taken |= {centre, *free}
        yield from ((centre, member) for member in sorted(free))


def _links(names: np.ndarray, codes: Sequence[tuple[str, ...]]) -> Iterator[tuple[int, int]]:
    """Yield pairs of names with a model number in common, unless each has another one besides."""
    root_of = _roots({code for name in names for code in codes[name]})
    own = {int(name): frozenset(root_of[code] for code in codes[name]) for name in names if codes[name]}
    names_of: dict[str, list[int]] = defaultdict(list)
    for name, roots in own.items():
        for root in roots:
            names_of[root].append(name)
    common = {root for root, names_with in names_of.items() if len(names_with) > MAX_NAMES_PER_CODE}
    seen: set[tuple[int, int]] = set()
    for root, names_with in names_of.items():
        if root in common:
            continue
        for one, other in combinations(names_with, 2):
            if (one, other) not in seen and not ((own[one] - own[other] - common) and (own[other] - own[one] - common)):
                yield one, other
            seen.add((one, other))


def _roots(codes: set[str]) -> dict[str, str]:
    """Return for each code the shortest one that it begins with, itself if there is none."""
    root_of, root = {}, None
    for code in sorted(codes):
        if root is None or not code.startswith(root):
            # The maker stands before a code, and is no part of its length.
            root = code if len(code.rpartition(" ")[2]) >= _MIN_ROOT_LENGTH else None
        root_of[code] = root or code
    return root_of
