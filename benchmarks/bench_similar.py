"""The nearest texts of a whole catalogue: our search, exact and in lists, beside three indexes of FAISS.

    make bench-similar                    100,000 x 384, top 60 for all, and how the search in lists grows to 1,000,000
    make bench-similar PART=compare       the first of them only

The vectors are those of bench_cluster: themes of very different size in a narrow cone. Each contender runs in a process
of its own, which loads the vectors, then searches. Time covers everything after loading: for us k-means, calibration
and exact cosines, for FAISS building the index. FAISS's inverted file and HNSW are given more and more effort until
they reach our recall; the time is that of building and of the effort it took. Memory is the peak of the process,
vectors included. Recall is counted against exact answers for texts spread over the whole; of two equally near texts
either may be named.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np

import bench_cluster
from shelfkin.recommending.nearest import nearest_texts

# Of a list of 20 similar products, three times as many are looked at.
N_NEAREST = 60
RECALL = 0.98
# HNSW as its authors and FAISS's wiki suggest for a high recall.
HNSW_LINKS, HNSW_EF_BUILD, HNSW_EF = 32, 80, (64, 128, 256, 512)
IVF_LISTS_PER_ROOT, IVF_PROBES = 4, (16, 24, 32, 40, 48, 64)
N_JUDGED = 2_000
COMPARED = 100_000
SIZES = (100_000, 300_000, 1_000_000)

# ---- contenders: each searches and returns seconds, neighbours and what there is to say ------------------------------

Answer = tuple[float, np.ndarray, str]


def ours(vectors: np.ndarray, truth: np.ndarray, exact_up_to: int) -> Answer:
    began = time.perf_counter()
    found = nearest_texts(vectors, np.ones(len(vectors), dtype=bool), N_NEAREST, exact_up_to=exact_up_to, recall=RECALL)
    seconds = time.perf_counter() - began
    return seconds, found.neighbours, ", ".join(f"{name} {value}" for name, value in found.metrics.items())


def ours_exact(vectors: np.ndarray, truth: np.ndarray) -> Answer:
    return ours(vectors, truth, sys.maxsize)


def ours_lists(vectors: np.ndarray, truth: np.ndarray) -> Answer:
    return ours(vectors, truth, 0)


def faiss_flat(vectors: np.ndarray, truth: np.ndarray) -> Answer:
    return searched(faiss.IndexFlatIP(vectors.shape[1]), vectors, truth, [0], lambda index, effort: None)


def faiss_ivf(vectors: np.ndarray, truth: np.ndarray) -> Answer:
    n_lists = int(IVF_LISTS_PER_ROOT * len(vectors) ** 0.5)
    quantizer = faiss.IndexFlatIP(vectors.shape[1])
    index = faiss.IndexIVFFlat(quantizer, vectors.shape[1], n_lists, faiss.METRIC_INNER_PRODUCT)
    return searched(index, vectors, truth, IVF_PROBES, lambda index, effort: setattr(index, "nprobe", effort))


def faiss_hnsw(vectors: np.ndarray, truth: np.ndarray) -> Answer:
    index = faiss.IndexHNSWFlat(vectors.shape[1], HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = HNSW_EF_BUILD
    return searched(index, vectors, truth, HNSW_EF, lambda index, effort: setattr(index.hnsw, "efSearch", effort))


def searched(
    index: Any, vectors: np.ndarray, truth: np.ndarray, efforts: Any, set_effort: Callable[[Any, int], None]
) -> Answer:
    """Build an index, find the effort that reaches the recall on the judged texts, and search for all."""
    began = time.perf_counter()
    index.train(vectors)
    index.add(vectors)
    built, judged = time.perf_counter() - began, spread(len(vectors))
    for effort in efforts:
        set_effort(index, effort)
        if len(efforts) > 1:
            sample = without_own(index.search(vectors[judged], N_NEAREST + 1)[1], judged)
            if recall(vectors, judged, sample, truth) >= RECALL:
                break
    began = time.perf_counter()
    _, found = index.search(vectors, N_NEAREST + 1)
    said = f"{built:.1f} s to build, effort {effort}"
    return built + time.perf_counter() - began, without_own(found, np.arange(len(vectors))), said


CONTENDERS: dict[str, Callable[[np.ndarray, np.ndarray], Answer]] = {
    "FAISS flat": faiss_flat,
    "shelfkin, exact": ours_exact,
    "shelfkin, lists": ours_lists,
    "FAISS IVF": faiss_ivf,
    "FAISS HNSW": faiss_hnsw,
}


def without_own(found: np.ndarray, asking: np.ndarray) -> np.ndarray:
    """Drop each row's own number, or the last one where it isn't there: a twin may have taken its place."""
    own = found == asking[:, None]
    own[~own.any(axis=1), -1] = True
    return found[~own].reshape(len(found), -1)


def spread(n: int) -> np.ndarray:
    """Return the rows on which recall is counted."""
    return np.linspace(0, n - 1, min(n, N_JUDGED)).astype(np.int64)


def recall(vectors: np.ndarray, judged: np.ndarray, found: np.ndarray, truth: np.ndarray) -> float:
    """Return the share of the places filled with something as near as what belongs there."""
    own = vectors[judged]
    farthest = np.einsum("nd,nd->n", own, vectors[truth[:, -1]])
    cosines = np.einsum("nd,nkd->nk", own, vectors[found])
    return float(((cosines >= farthest[:, None] - 1e-5) & (found >= 0)).mean())


# ---- measuring -------------------------------------------------------------------------------------------------------


def measured(contender: str, path: Path) -> dict[str, Any]:
    """Run one contender in a process of its own and return seconds, peak GiB, recall and what it says."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.npz"
        words = [sys.executable, __file__, "--one", contender, str(path), str(result)]
        child = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        peak = bench_cluster.watch_memory(child)
        if child.wait() != 0:
            raise SystemExit(f"{contender} failed; run it alone: {' '.join(words)}")
        content = np.load(result)
        return {
            "seconds": float(content["seconds"]),
            "gib": peak(),
            "recall": float(content["recall"]),
            "said": str(content["said"]),
        }


def run_one(contender: str, path: Path, result: Path) -> None:
    """Search, judge, and leave the figures in a file."""
    vectors, truth = np.load(path), np.load(path.with_suffix(".truth.npy"))
    seconds, found, said = CONTENDERS[contender](vectors, truth)
    judged = spread(len(vectors))
    np.savez(result, seconds=seconds, recall=recall(vectors, judged, found[judged], truth), said=said)


def compare(folder: Path, n: int, contenders: list[str]) -> dict[str, dict[str, Any]]:
    """Print a table of contenders; returns their figures."""
    path = folder / f"vectors-{n}.npy"
    bench_cluster.make_vectors(path, n)
    vectors, judged = np.load(path, mmap_mode="r"), spread(n)
    _, truth = faiss.knn(vectors[judged], vectors, N_NEAREST + 1, metric=faiss.METRIC_INNER_PRODUCT)
    np.save(path.with_suffix(".truth.npy"), without_own(truth, judged))
    print(f"\n{n:,} x {bench_cluster.DIMENSIONS}, the nearest {N_NEAREST} of all\n", flush=True)
    print(f"{'':18}{'seconds':>10}{'peak GiB':>10}{'recall':>11}", flush=True)
    found = {}
    for contender in contenders:
        figures = found[contender] = measured(contender, path)
        print(
            f"{contender:18}{figures['seconds']:>10.1f}{figures['gib']:>10.2f}{figures['recall']:>11.4f}"
            f"  {figures['said']}",
            flush=True,
        )
    path.unlink()
    return found


def growth(folder: Path, known: dict[str, Any]) -> None:
    """Measure the search in lists at `SIZES` and print the fitted power of its time."""
    found = [known, *(compare(folder, n, ["shelfkin, lists"])["shelfkin, lists"] for n in SIZES[1:])]
    power = np.polyfit(np.log(SIZES), np.log([figures["seconds"] for figures in found]), 1)[0]
    print(f"\nshelfkin, lists: seconds ~ texts^{power:.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", default="all", choices=["all", "compare"])
    parser.add_argument("--n", type=int, default=COMPARED, help="texts of the comparison")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.one:
        contender, path, result = flags.one
        return run_one(contender, Path(path), Path(result))
    print(json.dumps({"cores": os.cpu_count(), bench_cluster.CORE: os.environ.get(bench_cluster.CORE, "as found")}))
    with tempfile.TemporaryDirectory(prefix="bench-similar-") as folder:
        whole = compare(Path(folder), flags.n, list(CONTENDERS))
        if flags.part == "all":
            growth(Path(folder), whole["shelfkin, lists"])


if __name__ == "__main__":
    main()
