"""k-means on the same vectors: ours in one process and through executors, beside MLlib, scikit-learn and FAISS.

    make bench-cluster                    50,000 x 384 k=60, 1,000,000 x 384 k=200, and how cost grows in between
    make bench-cluster PART=small         the first of them only

Each contender runs in a process of its own, which loads the vectors, then fits. Time is that of the fit. Memory is the
peak of the process and all its children, shared pages counted once (PSS). The objective of all is measured alike: mean
cosine of all rows to the nearest of the unit centroids that a contender returns.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

DIMENSIONS = 384
CHUNK = 50_000
SAMPLE_EVERY_S = 0.2
# Texts of a shop: many themes of very different size, each spread along directions of its own, in a narrow cone.
N_THEMES, THEME_RANK, CONE, SPREAD, NOISE = 600, 12, 0.6, 0.55, 0.03


def make_vectors(path: Path, n: int, seed: int = 0) -> None:
    """Write n unit vectors of 384 float32 to a .npy file, chunk by chunk."""
    rng = np.random.default_rng(seed)
    cone = rng.normal(size=DIMENSIONS) / math.sqrt(DIMENSIONS)
    themes = CONE * cone + rng.normal(size=(N_THEMES, DIMENSIONS)) / math.sqrt(DIMENSIONS)
    axes = rng.normal(size=(N_THEMES, THEME_RANK, DIMENSIONS)) / math.sqrt(DIMENSIONS * THEME_RANK)
    shares = rng.pareto(1.2, size=N_THEMES) + 0.05
    shares /= shares.sum()
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, DIMENSIONS))
    for first in range(0, n, CHUNK):
        size = min(CHUNK, n - first)
        theme = rng.choice(N_THEMES, size=size, p=shares)
        rows = themes[theme] + NOISE * rng.normal(size=(size, DIMENSIONS))
        rows += SPREAD * np.einsum("nr,nrd->nd", rng.normal(size=(size, THEME_RANK)), axes[theme])
        out[first : first + size] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    out.flush()


# ---- contenders: each fits and returns seconds and centroids -------------------------------------------------------


def ours(path: Path, k: int, iterations: int, seed: int) -> tuple[float, np.ndarray]:
    from shelfkin.clustering import kmeans

    vectors = np.load(path)
    began = time.perf_counter()
    found = kmeans.fit(vectors, np.ones(len(vectors)), k, n_starts=1, seed=seed, **_fixed(iterations))
    return time.perf_counter() - began, found.centroids


def ours_on_executors(path: Path, k: int, iterations: int, seed: int) -> tuple[float, np.ndarray]:
    from shelfkin.artifacts import Root
    from shelfkin.clustering import kmeans, shards

    session = _session()
    with tempfile.TemporaryDirectory() as folder:
        table = session.read.parquet(str(_as_table(path)))
        _warm_up(session)
        began = time.perf_counter()
        n = shards.n_shards(len(np.load(path, mmap_mode="r")), k, DIMENSIONS)
        over = shards.SparkShards.write(table, Root.at(folder), f"{folder}/shards", n, DIMENSIONS)
        written = time.perf_counter()
        first = kmeans.start(*over.head(kmeans.n_start_rows(k)), k, n_starts=1, seed=seed, tolerance=-1.0)
        started = time.perf_counter()
        found = kmeans.fit_passes(over, first, **_fixed(iterations))
        ended = time.perf_counter()
        print(
            f"    ({written - began:.1f} s to write shards, {started - written:.1f} s for the start, "
            f"{(ended - started) / (iterations + 2):.2f} s a pass over the data)",
            file=sys.stderr,
        )
    return ended - began, found.centroids


def faiss(path: Path, k: int, iterations: int, seed: int) -> tuple[float, np.ndarray]:
    import faiss as library

    vectors = np.load(path)
    fit = library.Kmeans(
        DIMENSIONS, k, niter=iterations, spherical=True, seed=seed, max_points_per_centroid=len(vectors)
    )
    began = time.perf_counter()
    fit.train(vectors)
    return time.perf_counter() - began, fit.centroids


def scikit_learn(path: Path, k: int, iterations: int, seed: int, n_init: int = 1) -> tuple[float, np.ndarray]:
    import warnings

    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    warnings.simplefilter("ignore", ConvergenceWarning)
    vectors = np.load(path)
    fit = KMeans(k, n_init=n_init, max_iter=iterations, tol=0, random_state=seed)
    began = time.perf_counter()
    fit.fit(vectors)
    return time.perf_counter() - began, fit.cluster_centers_


def scikit_learn_best_of_5(path: Path, k: int, iterations: int, seed: int) -> tuple[float, np.ndarray]:
    return scikit_learn(path, k, iterations, seed, n_init=5)


def mllib(path: Path, k: int, iterations: int, seed: int) -> tuple[float, np.ndarray]:
    from pyspark.ml.clustering import KMeans
    from pyspark.ml.functions import array_to_vector

    session = _session()
    table = session.read.parquet(str(_as_table(path))).select(array_to_vector("vector").alias("features")).persist()
    table.count()
    fit = KMeans(k=k, maxIter=iterations, tol=0.0, seed=seed, distanceMeasure="cosine")
    began = time.perf_counter()
    model = fit.fit(table)
    return time.perf_counter() - began, np.array(model.clusterCenters())


CONTENDERS: dict[str, Callable[[Path, int, int, int], tuple[float, np.ndarray]]] = {
    "shelfkin": ours,
    "shelfkin, executors": ours_on_executors,
    "FAISS": faiss,
    "scikit-learn": scikit_learn,
    "scikit-learn, best of 5": scikit_learn_best_of_5,
    "MLlib": mllib,
}


def _fixed(iterations: int) -> dict[str, Any]:
    # A tolerance below zero never ends a fit: all contenders do the same number of iterations.
    return {"max_iterations": iterations, "tolerance": -1.0}


def _session() -> Any:
    from shelfkin.spark import build_session

    os.environ["PYSPARK_PYTHON"] = sys.executable
    memory = os.environ.get("BENCH_DRIVER_MEMORY", "2g")
    settings = {"spark.master": "local[*]", "spark.driver.memory": memory, "spark.ui.enabled": "false"}
    session = build_session("bench", {**settings, "spark.log.level": "ERROR", "spark.driver.host": "127.0.0.1"})
    session.sparkContext.setLogLevel("ERROR")
    return session


def _warm_up(session: Any) -> None:
    """Start the Python workers: in a stage they run already, from reading the table."""
    session.sparkContext.parallelize(range(2), 2).map(lambda n: np.ones(2)[0] + n).collect()


def _as_table(path: Path) -> Path:
    """Return the vectors as the stage finds them: parquet with text_hash, n_products and vector."""
    import hashlib

    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = path.with_suffix(".table")
    if folder.exists():
        return folder
    vectors = np.load(path, mmap_mode="r")
    folder.mkdir()
    for part, first in enumerate(range(0, len(vectors), CHUNK)):
        rows = np.ascontiguousarray(vectors[first : first + CHUNK])
        values = pa.ListArray.from_arrays(
            np.arange(0, rows.size + 1, DIMENSIONS, dtype=np.int32), pa.array(rows.ravel())
        )
        hashes = [hashlib.sha256(str(first + place).encode()).hexdigest() for place in range(len(rows))]
        table = pa.table({"text_hash": hashes, "n_products": np.ones(len(rows), dtype=np.int64), "vector": values})
        pq.write_table(table, folder / f"part-{part:05d}.parquet")
    return folder


# ---- measuring -------------------------------------------------------------------------------------------------------


def measured(contender: str, path: Path, k: int, iterations: int, seed: int = 0) -> dict[str, Any]:
    """Run one contender in a process of its own and return seconds, peak GiB and mean cosine."""
    if contender in ("MLlib", "shelfkin, executors"):
        _as_table(path)
    memory = {**os.environ, "BENCH_DRIVER_MEMORY": "10g" if contender == "MLlib" else "2g"}
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.npz"
        words = [contender, str(path), str(k), str(iterations), str(seed), str(result)]
        child = subprocess.Popen([sys.executable, __file__, "--one", *words], env=memory, stdout=subprocess.DEVNULL)
        peak = watch_memory(child)
        if child.wait() != 0:
            raise SystemExit(f"{contender} failed.")
        content = np.load(result)
        return {"seconds": float(content["seconds"]), "gib": peak(), "cosine": mean_cosine(path, content["centroids"])}


def watch_memory(child: subprocess.Popen[bytes]) -> Callable[[], float]:
    """Sample the memory of a process and its children until it ends; returns what tells the peak in GiB."""
    peak = 0.0

    def watch() -> None:
        nonlocal peak
        while child.poll() is None:
            total = 0
            try:
                family = [psutil.Process(child.pid), *psutil.Process(child.pid).children(recursive=True)]
            except psutil.Error:
                return
            for process in family:
                try:
                    total += process.memory_full_info().pss
                except psutil.Error:
                    continue
            peak = max(peak, total / 2**30)
            time.sleep(SAMPLE_EVERY_S)

    thread = threading.Thread(target=watch)
    thread.start()

    def ended() -> float:
        thread.join()
        return peak

    return ended


def mean_cosine(path: Path, centroids: np.ndarray) -> float:
    vectors = np.load(path, mmap_mode="r")
    unit = (centroids / np.linalg.norm(centroids, axis=1, keepdims=True)).astype(np.float32).T
    best = [
        (vectors[first : first + 8192] @ unit).max(axis=1).sum(dtype=np.float64)
        for first in range(0, len(vectors), 8192)
    ]
    return float(sum(best) / len(vectors))


def compare(path: Path, n: int, k: int, plan: dict[str, int]) -> dict[str, dict[str, Any]]:
    """Print a table of contenders, each with so many iterations; returns their figures."""
    print(f"\n{n:,} x {DIMENSIONS}, k={k}, one start\n", flush=True)
    print(f"{'':26}{'iterations':>11}{'seconds':>10}{'s/iteration':>13}{'peak GiB':>10}{'mean cosine':>13}", flush=True)
    found = {}
    for contender, iterations in plan.items():
        figures = found[contender] = measured(contender, path, k, iterations)
        figures["a_pass"] = figures["seconds"] / iterations
        print(
            f"{contender:26}{iterations:>11}{figures['seconds']:>10.2f}{figures['a_pass']:>13.3f}"
            f"{figures['gib']:>10.2f}{figures['cosine']:>13.4f}",
            flush=True,
        )
    return found


def small(folder: Path) -> None:
    path = folder / "small.npy"
    make_vectors(path, 50_000)
    names = ["shelfkin", "FAISS", "scikit-learn", "scikit-learn, best of 5", "MLlib"]
    found = compare(path, 50_000, 60, dict.fromkeys(names, 20))
    ours, best = found["shelfkin"], found["scikit-learn, best of 5"]
    print(f"\nMLlib takes {found['MLlib']['seconds'] / ours['seconds']:.0f} times as long as shelfkin.")
    print(f"shelfkin takes {ours['seconds'] / found['FAISS']['seconds']:.2f} times as long as FAISS.")
    five = measured_default(path, 60)
    gap = (1 - five["cosine"]) / (1 - best["cosine"]) - 1
    print(f"As the stage runs it (5 starts, to tolerance): {five['seconds']:.2f} s, mean cosine {five['cosine']:.4f};")
    print(f"its objective, 1 - cosine, lies {100 * gap:+.2f}% from that of the best of five scikit-learn starts.")


def measured_default(path: Path, k: int) -> dict[str, Any]:
    from shelfkin.clustering import kmeans

    vectors = np.load(path)
    began = time.perf_counter()
    found = kmeans.fit(vectors, np.ones(len(vectors)), k)
    return {"seconds": time.perf_counter() - began, "cosine": mean_cosine(path, found.centroids)}


def large(folder: Path) -> None:
    path = folder / "large.npy"
    make_vectors(path, 1_000_000)
    plan = {"shelfkin": 20, "shelfkin, executors": 20, "FAISS": 20, "scikit-learn": 5, "MLlib": 3}
    found = compare(path, 1_000_000, 200, plan)
    per_fit = found["FAISS"]["seconds"]
    print(
        f"\nshelfkin in one process takes {found['shelfkin']['seconds'] / per_fit:.2f} times as long as FAISS's fit of"
    )
    print(
        f"all rows, through executors {found['shelfkin, executors']['seconds'] / per_fit:.2f} times (same iterations)."
    )


def growth(folder: Path) -> None:
    print(f"\nHow cost grows (shelfkin in one process, k=200, 10 iterations)\n\n{'rows':>12}{'seconds':>10}")
    sizes, seconds = (100_000, 200_000, 500_000, 1_000_000), []
    for n in sizes:
        path = folder / f"growth-{n}.npy"
        make_vectors(path, n)
        seconds.append(measured("shelfkin", path, 200, 10)["seconds"])
        print(f"{n:>12,}{seconds[-1]:>10.2f}", flush=True)
        path.unlink()
    slope = np.polyfit(np.log(sizes), np.log(seconds), 1)[0]
    print(f"\nseconds ~ rows ^ {slope:.2f}")


def kernels() -> str:
    import faiss as _  # noqa: F401 - loads the BLAS that it brings
    from threadpoolctl import threadpool_info

    found = [
        f"{Path(entry['filepath']).parent.name.removesuffix('.libs')}: {entry['architecture']}"
        for entry in threadpool_info()
        if entry.get("architecture")
    ]
    return "; ".join(sorted(set(found)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", default="all", choices=["all", "small", "large", "growth"])
    parser.add_argument("--one", nargs=6, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.one:
        contender, path, k, iterations, seed, result = flags.one
        seconds, centroids = CONTENDERS[contender](Path(path), int(k), int(iterations), int(seed))
        np.savez(result, seconds=seconds, centroids=centroids)
        return
    print(json.dumps({"cores": os.cpu_count(), "BLAS kernels": kernels()}))
    with tempfile.TemporaryDirectory(prefix="bench-cluster-") as folder:
        for name, part in {"small": small, "large": large, "growth": growth}.items():
            if flags.part in ("all", name):
                part(Path(folder))


if __name__ == "__main__":
    main()
