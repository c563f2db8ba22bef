"""Whether clusters mean something: categories found again, planted groups counted, identity under a changed catalogue.

    make bench-meaning                     PriceRunner, planted groups, and the stability of Online Retail's clusters
    make bench-meaning STORE=complete_journey   ... of Complete Journey's

- **Categories**: product titles of ten PriceRunner categories, embedded by the bundled model, into ten clusters;
  normalised mutual information with the categories over five seeds, of the plain vectors and of what might raise it.
- **k**: the k chosen there without being told, and for planted groups of 3 to 60 centres, and for none at all.
- **Stability**: two catalogues that each lack 1% of the texts, the second started from the first; share of the common
  products that keep their cluster.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import normalized_mutual_info_score

import bench_quality
from shelfkin.clustering import kmeans
from shelfkin.clustering.choose_k import choose_k
from shelfkin.clustering.k_rule import Limits
from shelfkin.clustering.vectors import FloatArray, unit_vectors
from shelfkin.embedding.minilm import MiniLM
from shelfkin.spark import build_session

# Apart by more than a fit has starts.
SEEDS = range(0, 50, 10)
N_CATEGORIES = 10
K_RANGE = Limits(5, 60, 30_000, 5, 0.5)
PLANTED = (3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 24, 28, 32, 38, 45, 52, 60)
SAMPLE = 8_000
TEXTS_AT_ONCE = 2_000
STORES = {"online_retail": ("2011-11-01", 24, 20), "complete_journey": ("2018-01-01", 51, 6)}


@dataclass(frozen=True)
class Labelled:
    """Distinct titles in the order of their hashes, with unit vectors, numbers of products and categories."""

    titles: list[str]
    vectors: FloatArray
    weights: FloatArray
    categories: np.ndarray


def pricerunner() -> Labelled:
    """Embed the titles of PriceRunner; of a title in several categories the commonest counts."""
    folder = os.environ.get("SHELFKIN_REFERENCE_DATA")
    if not folder:
        raise SystemExit(
            "Set SHELFKIN_REFERENCE_DATA to the folder of the reference data; README says where to get it."
        )
    rows = pd.read_csv(Path(folder) / "pricerunner" / "pricerunner_aggregate.csv.gz")
    found = rows.groupby("product_title").agg(
        n=("product_id", "size"), category=("category_label", lambda labels: labels.mode()[0])
    )
    found = found.iloc[np.argsort([hashlib.sha256(str(title).encode()).hexdigest() for title in found.index])]
    titles, model, began = [str(title) for title in found.index], MiniLM(os.cpu_count() or 1), time.monotonic()
    vectors = np.concatenate(
        [model.embed(titles[i : i + TEXTS_AT_ONCE]).vectors for i in range(0, len(titles), TEXTS_AT_ONCE)]
    )
    print(f"{len(titles):,} titles embedded in {time.monotonic() - began:,.0f} s", flush=True)
    return Labelled(
        titles, unit_vectors(vectors), found["n"].to_numpy(dtype=np.float64), found["category"].to_numpy(dtype=str)
    )


# ---- what might raise the agreement with categories ------------------------------------------------------------------


def centred(vectors: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return vectors less their mean, and the variances and directions of what is left, largest first."""
    rest = vectors - np.average(vectors, axis=0, weights=weights)
    scaled = rest * np.sqrt(weights / weights.sum())[:, None]
    variances, directions = np.linalg.eigh((scaled.T @ scaled).astype(np.float64))
    return rest, np.maximum(variances[::-1], 1e-8), directions[:, ::-1]


def without_top(vectors: FloatArray, weights: FloatArray, n: int) -> FloatArray:
    rest, _, directions = centred(vectors, weights)
    top = directions[:, :n]
    return unit_vectors((rest - (rest @ top) @ top.T).astype(np.float32))


def whitened(vectors: FloatArray, weights: FloatArray, power: float) -> FloatArray:
    rest, variances, directions = centred(vectors, weights)
    return unit_vectors(((rest @ directions) * variances**-power).astype(np.float32))


def with_words(vectors: FloatArray, titles: list[str], share: float) -> FloatArray:
    # No numbers: sizes and model numbers would tell products apart, not categories.
    words_only = re.compile(r"(?u)\b[a-z][a-z]+\b").findall
    counted = TfidfVectorizer(
        tokenizer=lambda title: words_only(title.lower()), token_pattern=None, min_df=3, sublinear_tf=True
    ).fit_transform(titles)
    words = unit_vectors(TruncatedSVD(100, random_state=0).fit_transform(counted).astype(np.float32) + 1e-9)
    return unit_vectors(np.hstack([np.sqrt(1 - share) * vectors, np.sqrt(share) * words]).astype(np.float32))


def compare_categories(data: Labelled) -> None:
    variants = {
        "plain (as shipped)": data.vectors,
        "centred": without_top(data.vectors, data.weights, 0),
        "without the top 3": without_top(data.vectors, data.weights, 3),
        "whitened by 1/4": whitened(data.vectors, data.weights, 0.25),
        "whitened by 1/2": whitened(data.vectors, data.weights, 0.5),
        "with words, 20%": with_words(data.vectors, data.titles, 0.2),
    }
    print(f"\nPriceRunner, k={N_CATEGORIES}: NMI with {len(np.unique(data.categories))} categories, five seeds")
    for name, vectors in variants.items():
        found = [
            normalized_mutual_info_score(data.categories, fitted(vectors, data.weights, N_CATEGORIES, seed).labels)
            for seed in SEEDS
        ]
        print(f"  {name:20} {np.mean(found):.4f} +- {np.std(found):.4f}", flush=True)


def fitted(vectors: FloatArray, weights: FloatArray, k: int, seed: int, **options: Any) -> kmeans.Model:
    return kmeans.fit(vectors, weights, k, kmeans.Options(seed=seed, **options))


# ---- k ---------------------------------------------------------------------------------------------------------------


def choose_for_categories(context: Any, data: Labelled) -> None:
    print("\nPriceRunner: k chosen between 5 and 60")
    for seed in SEEDS:
        choice = choose_k(context, data.vectors[:SAMPLE], data.weights[:SAMPLE], K_RANGE, seed=seed)
        print(f"  seed {seed}: k={choice.k}. {choice.reason}", flush=True)


def choose_for_planted(context: Any) -> None:
    """Well separated groups of 20 to 60 texts around random centres, then one cloud without any."""
    n_near = 0
    for number, n_centres in enumerate(PLANTED):
        rng = np.random.default_rng(number)
        centres = unit_vectors(rng.normal(size=(n_centres, 48)).astype(np.float32))
        labels = np.repeat(np.arange(n_centres), rng.integers(20, 60, n_centres))
        noise = 0.5 * rng.normal(size=(len(labels), 48)) / np.sqrt(48)
        points = unit_vectors((centres[labels] + noise)[rng.permutation(len(labels))].astype(np.float32))
        chosen = choose_k(context, points, np.ones(len(points)), Limits(2, 80)).k
        n_near += abs(chosen - n_centres) <= 1
        print(f"  {n_centres} planted, {chosen} chosen", flush=True)
    print(f"planted groups: {n_near} of {len(PLANTED)} within 1")
    for dimensions in (8, 64):
        cloud = unit_vectors(np.random.default_rng(0).normal(size=(2_000, dimensions)).astype(np.float32))
        choice = choose_k(context, cloud, np.ones(len(cloud)), Limits(2, 60))
        print(f"  one cloud of {dimensions} dimensions: k={choice.k}, {choice.rule}. {choice.reason}", flush=True)


# ---- stability -------------------------------------------------------------------------------------------------------


def judge_stability(store: str, folder: Path) -> None:
    as_of, k, n_pairs = STORES[store]
    shop = bench_quality.Shop(store, folder)
    for stage in ("clean_catalog", "embed_products"):
        manifest = shop.run_stage(as_of, stage)
    table = pd.read_parquet(manifest.table_uri("product_vectors").removeprefix("file://")).sort_values("text_hash")
    vectors = unit_vectors(np.stack(table["vector"].tolist()).astype(np.float32))
    weights = table["n_products"].to_numpy(dtype=np.float64)
    kept = [kept_share(vectors, weights, k, seed) for seed in range(n_pairs)]
    print(
        f"\n{store}, k={k}: two catalogues that each lack 1% of {len(vectors):,} texts, {n_pairs} pairs: products that "
        f"keep their cluster: least {min(kept):.2%}, mean {np.mean(kept):.2%}"
    )


def kept_share(vectors: FloatArray, weights: FloatArray, k: int, seed: int) -> float:
    """Return the share of the common products that stay in their cluster, clusters paired as well as they can be."""
    place = np.random.default_rng(seed).random(len(vectors))
    labels = np.full((2, len(vectors)), -1)
    first = None
    for day, present in enumerate((place > 0.01, place < 0.99)):
        found = fitted(vectors[present], weights[present], k, seed + 1_000 * day, warm_start=first)
        first, labels[day, present] = found.centroids, found.labels
    both = (labels >= 0).all(axis=0)
    common = np.zeros((k, k))
    np.add.at(common, (labels[0, both], labels[1, both]), weights[both])
    rows, columns = linear_sum_assignment(-common)
    return float(common[rows, columns].sum() / common.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", nargs="?", default="online_retail", choices=sorted(STORES))
    flags = parser.parse_args()
    context = build_session("bench-meaning", {"spark.ui.showConsoleProgress": "false"}).sparkContext
    with tempfile.TemporaryDirectory(prefix="bench-meaning-") as folder:
        judge_stability(flags.store, Path(folder))
    choose_for_planted(context)
    data = pricerunner()
    compare_categories(data)
    choose_for_categories(context, data)


if __name__ == "__main__":
    main()
