"""Similar products for a whole catalogue: our exact and pruned search through Spark beside FAISS flat and HNSW.

    make bench-similar                    100,000 x 384, top 50 for all, then three sizes and what 1,000,000 would take
    make bench-similar PART=compare       the first of them only

The vectors are those of bench_cluster: themes of very different size in a narrow cone. Each contender runs in a process
of its own, which loads the vectors, then searches. Time covers everything after loading: for us writing the files,
lists and calibration, for FAISS building the index. Memory is the peak of the process and all its children, the JVM
too, shared pages counted once (PSS). Recall is counted against the exact answers of FAISS flat, over texts spread over
the whole; of two equally near texts either may be named.
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

import numpy as np

import bench_cluster

N_NEAREST = 50
# HNSW as its authors and FAISS's wiki suggest for a high recall; ef is raised until the recall is that of ours.
HNSW_LINKS, HNSW_EF_BUILD, HNSW_EF = 32, 80, (64, 128, 256, 512)
N_JUDGED = 2_000
SIZES = (25_000, 50_000, 100_000)
EXTRAPOLATED = 1_000_000


# ---- contenders: each searches and returns seconds, neighbours and what there is to say ------------------------------

Answer = tuple[float, np.ndarray, str]


def ours(path: Path, exact_up_to: int) -> Answer:
    from shelfkin.artifacts import Root
    from shelfkin.mapped import Scratch
    from shelfkin.recommending.search import nearest_texts

    session = bench_cluster._session()
    vectors = np.load(path)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        # In a stage, Python workers run already and have their modules from the steps before.
        with Scratch(Root.at(folder), f"{folder}/warm-up") as scratch:
            nearest_texts(session, vectors[:2_000], np.ones(2_000, dtype=bool), N_NEAREST, scratch)
        began = time.perf_counter()
        with Scratch(Root.at(folder), f"{folder}/search") as scratch:
            found = nearest_texts(
                session, vectors, np.ones(len(vectors), dtype=bool), N_NEAREST, scratch, exact_up_to=exact_up_to
            )
        seconds = time.perf_counter() - began
    said = ", ".join(f"{name.removeprefix('search_')} {value}" for name, value in found.figures.items())
    return seconds, found.neighbours, said


def ours_exact(path: Path) -> Answer:
    return ours(path, sys.maxsize)


def ours_pruned(path: Path) -> Answer:
    return ours(path, 0)


def faiss_flat(path: Path) -> Answer:
    import faiss

    vectors = np.load(path)
    began = time.perf_counter()
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    _, found = index.search(vectors, N_NEAREST + 1)
    return time.perf_counter() - began, without_own(found), ""


def faiss_hnsw(path: Path) -> Answer:
    """Build once, and search with more and more effort; the time is that of building and of the effort it took."""
    import faiss

    vectors = np.load(path)
    truth = np.load(path.with_suffix(".truth.npy"))
    judged = spread(len(vectors))
    began = time.perf_counter()
    index = faiss.IndexHNSWFlat(vectors.shape[1], HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = HNSW_EF_BUILD
    index.add(vectors)
    built = time.perf_counter() - began
    for effort in HNSW_EF:
        index.hnsw.efSearch = effort
        _, sample = index.search(vectors[judged], N_NEAREST + 1)
        if recall(vectors, judged, without_own(sample, judged), truth) >= 0.98:
            break
    began = time.perf_counter()
    _, found = index.search(vectors, N_NEAREST + 1)
    return built + time.perf_counter() - began, without_own(found), f"{built:.1f} s to build, ef {effort}"


CONTENDERS: dict[str, Callable[[Path], Answer]] = {
    "FAISS flat": faiss_flat,
    "shelfkin, exact": ours_exact,
    "shelfkin, pruned": ours_pruned,
    "FAISS HNSW": faiss_hnsw,
}


def without_own(found: np.ndarray, asking: np.ndarray | None = None) -> np.ndarray:
    """Drop each row's own number, or the last one where it isn't there: a twin may have taken its place."""
    asking = np.arange(len(found)) if asking is None else asking
    own = found == asking[:, None]
    own[~own.any(axis=1), -1] = True
    return found[~own].reshape(len(found), -1)


def spread(n: int) -> np.ndarray:
    """Return the rows on which recall is counted."""
    return np.linspace(0, n - 1, min(n, N_JUDGED)).astype(np.int64)


def recall(vectors: np.ndarray, judged: np.ndarray, found: np.ndarray, truth: np.ndarray) -> float:
    """Return the share of the places filled with something as near as what belongs there."""
    own = vectors[judged][:, None, :]
    nearest = np.einsum("nkd,nkd->nk", np.broadcast_to(own, (*truth.shape, own.shape[2])), vectors[truth])
    cosines = np.einsum("nkd,nkd->nk", np.broadcast_to(own, (*found.shape, own.shape[2])), vectors[found])
    return float(((cosines >= nearest[:, -1:] - 1e-6) & (found >= 0)).mean())


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
        found, vectors = content["found"], np.load(path, mmap_mode="r")
        judged, truth = spread(len(vectors)), path.with_suffix(".truth.npy")
        if contender == "FAISS flat":
            np.save(truth, found[judged])
        return {
            "seconds": float(content["seconds"]),
            "gib": peak(),
            "recall": recall(vectors, judged, found[judged], np.load(truth)),
            "said": str(content["said"]),
        }


def compare(folder: Path, n: int, contenders: list[str]) -> dict[str, dict[str, Any]]:
    """Print a table of contenders; returns their figures."""
    path = folder / f"vectors-{n}.npy"
    bench_cluster.make_vectors(path, n)
    print(f"\n{n:,} x {bench_cluster.DIMENSIONS}, the nearest {N_NEAREST} of all\n", flush=True)
    print(f"{'':18}{'seconds':>10}{'peak GiB':>10}{'recall@50':>11}", flush=True)
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


def growth(folder: Path, known: dict[str, dict[str, Any]] | None) -> None:
    """Measure three sizes and print the fitted power and what `EXTRAPOLATED` texts would take."""
    contenders = ["FAISS flat", "shelfkin, exact", "shelfkin, pruned"]
    figures = {n: known if known and n == SIZES[-1] else compare(folder, n, contenders) for n in SIZES}
    print(f"\n{'':18}{'seconds ~ texts^':>18}{f'{EXTRAPOLATED:,} texts: h':>22}{'GiB':>8}")
    for contender in contenders:
        seconds = [figures[n][contender]["seconds"] for n in SIZES]
        gib = [figures[n][contender]["gib"] for n in SIZES]
        power, factor = np.polyfit(np.log(SIZES), np.log(seconds), 1)
        hours = np.exp(factor + power * np.log(EXTRAPOLATED)) / 3600
        # Vectors and answers grow with the number of texts; what Spark and Python take of their own doesn't.
        memory = np.polyval(np.polyfit(SIZES, gib, 1), EXTRAPOLATED)
        print(f"{contender:18}{power:>18.2f}{hours:>22.2f}{memory:>8.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", default="all", choices=["all", "compare"])
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.one:
        contender, path, result = flags.one
        seconds, found, said = CONTENDERS[contender](Path(path))
        np.savez(result, seconds=seconds, found=found, said=said)
        return
    print(json.dumps({"cores": os.cpu_count(), bench_cluster.CORE: os.environ.get(bench_cluster.CORE, "as found")}))
    with tempfile.TemporaryDirectory(prefix="bench-similar-") as folder:
        whole = compare(Path(folder), SIZES[-1], list(CONTENDERS))
        if flags.part == "all":
            growth(Path(folder), whole)


if __name__ == "__main__":
    main()
