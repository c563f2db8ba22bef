"""k-means on the same vectors: ours on all rows and on a sample of them, beside MLlib, scikit-learn and FAISS.

    make bench-cluster                    50,000 x 384 k=60, 1,000,000 x 384 k=200, and how cost grows in between
    make bench-cluster PART=small         the first of them only

Each contender runs in a process of its own, which loads the vectors, then fits, with the BLAS kernels that were fastest
for it in a short trial (`OPENBLAS_CORETYPE`; the trials are printed). Time is that of the fit. Memory is the peak of
the process and all its children, shared pages counted once (PSS). The objective of all is measured alike: mean cosine
of all rows to the nearest of the unit centroids that a contender returns.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from shelfkin.clustering.vectors import unit_vectors
from shelfkin.profile import Clustering

DIMENSIONS = 384
CHUNK = 50_000
SAMPLE_EVERY_S = 0.2
# As in a profile without the key `fit_sample`.
FIT_SAMPLE = Clustering().fit_sample
# Each library brings a BLAS of its own, which doesn't always choose the fastest kernels that it has: they are tried.
CORE, CORES = "OPENBLAS_CORETYPE", ("Haswell", "SkylakeX")
TRIAL_ROWS, TRIAL_K, TRIAL_ITERATIONS, TRIAL_GAIN = 20_000, 100, 5, 0.9
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
        out[first : first + size] = unit_vectors(rows)
    out.flush()


# ---- contenders ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fitted:
    """What a contender's fit gave: seconds, unit or other centroids, and iterations over all rows."""

    seconds: float
    centroids: np.ndarray
    iterations: int


def ours(path: Path, k: int, iterations: int, seed: int) -> Fitted:
    from shelfkin.clustering import kmeans

    vectors = np.load(path)
    began = time.perf_counter()
    found = kmeans.fit(vectors, np.ones(len(vectors)), k, _options(iterations, seed))
    return Fitted(time.perf_counter() - began, found.centroids, found.n_iterations)


def ours_by_default(path: Path, k: int, iterations: int, seed: int) -> Fitted:
    """Fit as the stage does: three starts, to tolerance."""
    from shelfkin.clustering import kmeans

    vectors = np.load(path)
    began = time.perf_counter()
    found = kmeans.fit(vectors, np.ones(len(vectors)), k, kmeans.Options(seed=seed))
    return Fitted(time.perf_counter() - began, found.centroids, found.n_iterations)


def ours_on_a_sample(path: Path, k: int, iterations: int, seed: int) -> Fitted:
    """Fit as the stage fits a large catalogue: by default, on its first rows; all are measured."""
    from shelfkin.clustering import kmeans

    vectors = np.load(path, mmap_mode="r")
    sample = np.array(vectors[: kmeans.n_fit_rows(FIT_SAMPLE, k, DIMENSIONS)])
    began = time.perf_counter()
    found = kmeans.fit(sample, np.ones(len(sample)), k, kmeans.Options(seed=seed))
    return Fitted(time.perf_counter() - began, found.centroids, found.n_iterations)


def faiss(path: Path, k: int, iterations: int, seed: int) -> Fitted:
    import faiss as library

    vectors = np.load(path)
    fit = library.Kmeans(
        DIMENSIONS, k, niter=iterations, spherical=True, seed=seed, max_points_per_centroid=len(vectors)
    )
    began = time.perf_counter()
    fit.train(vectors)
    return Fitted(time.perf_counter() - began, fit.centroids, len(fit.obj))


def scikit_learn(path: Path, k: int, iterations: int, seed: int, n_init: int = 1) -> Fitted:
    import warnings

    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    warnings.simplefilter("ignore", ConvergenceWarning)
    vectors = np.load(path)
    fit = KMeans(k, n_init=n_init, max_iter=iterations, tol=0, random_state=seed)
    began = time.perf_counter()
    fit.fit(vectors)
    return Fitted(time.perf_counter() - began, fit.cluster_centers_, fit.n_iter_)


def scikit_learn_best_of_5(path: Path, k: int, iterations: int, seed: int) -> Fitted:
    return scikit_learn(path, k, iterations, seed, n_init=5)


def mllib(path: Path, k: int, iterations: int, seed: int) -> Fitted:
    from pyspark.ml.clustering import KMeans
    from pyspark.ml.functions import array_to_vector

    session = _session()
    table = session.read.parquet(str(_as_table(path))).select(array_to_vector("vector").alias("features")).persist()
    table.count()
    fit = KMeans(k=k, maxIter=iterations, tol=0.0, seed=seed, distanceMeasure="cosine")
    began = time.perf_counter()
    model = fit.fit(table)
    seconds = time.perf_counter() - began
    return Fitted(seconds, np.array(model.clusterCenters()), model.summary.numIter)


CONTENDERS: dict[str, Callable[[Path, int, int, int], Fitted]] = {
    "shelfkin": ours,
    "shelfkin, on a sample": ours_on_a_sample,
    "shelfkin, as by default": ours_by_default,
    "FAISS": faiss,
    "scikit-learn": scikit_learn,
    "scikit-learn, best of 5": scikit_learn_best_of_5,
    "MLlib": mllib,
}
# Whose BLAS does the arithmetic: folders of the wheels that bring one. MLlib computes in the JVM.
BLAS = {"shelfkin": "numpy.libs", "FAISS": "faiss_cpu.libs", "scikit-learn": "scipy.libs"}


def _options(iterations: int, seed: int) -> Any:
    from shelfkin.clustering.kmeans import Options

    # A tolerance below zero never ends a fit: all contenders do the same number of iterations.
    return Options(n_starts=1, seed=seed, max_iterations=iterations, tolerance=-1.0)


def _session() -> Any:
    from shelfkin.spark import build_session

    os.environ["PYSPARK_PYTHON"] = sys.executable
    memory = os.environ.get("BENCH_DRIVER_MEMORY", "2g")
    settings = {"spark.master": "local[*]", "spark.driver.memory": memory, "spark.ui.enabled": "false"}
    session = build_session("bench", {**settings, "spark.log.level": "ERROR", "spark.driver.host": "127.0.0.1"})
    session.sparkContext.setLogLevel("ERROR")
    return session


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
    """Run one contender in a process of its own, on its fastest kernels; return seconds, peak GiB and mean cosine."""
    if contender == "MLlib":
        _as_table(path)
    core = fastest_kernels(contender.split(",")[0])
    figures, centroids = run_alone(contender, path, k, iterations, seed, core)
    return {**figures, "cosine": mean_cosine(path, centroids)}


def run_alone(
    contender: str, path: Path, k: int, iterations: int, seed: int, core: str | None
) -> tuple[dict[str, Any], np.ndarray]:
    """Run one contender in a process of its own, with OPENBLAS_CORETYPE as given or unset."""
    environment = {name: value for name, value in os.environ.items() if name != CORE}
    environment |= {"BENCH_DRIVER_MEMORY": "10g" if contender == "MLlib" else "2g"}
    environment |= {CORE: core} if core else {}
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.npz"
        words = ["--one", contender, str(path), str(k), str(iterations), str(seed), str(result)]
        with (Path(folder) / "log").open("w+") as log:
            child = subprocess.Popen([sys.executable, __file__, *words], env=environment, stdout=log, stderr=log)
            peak = watch_memory(child)
            status = child.wait()
            gib = peak()
            if status != 0:
                log.seek(0)
                raise RuntimeError(f"{contender} failed with status {status}: {log.read()[-2000:]}")
        content = np.load(result)
        return {**json.loads(str(content["figures"])), "gib": gib}, content["centroids"]


@functools.cache
def fastest_kernels(library: str) -> str | None:
    """Return the OPENBLAS_CORETYPE under which a library is fastest here; None where its own choice is."""
    if library not in BLAS:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trial.npy"
        make_vectors(path, TRIAL_ROWS)
        tried = {}
        for core in (None, *CORES):
            # A kernel that the processor lacks may end the process; one that the library lacks changes nothing.
            with contextlib.suppress(RuntimeError) if core else contextlib.nullcontext():
                runs = [run_alone(library, path, TRIAL_K, TRIAL_ITERATIONS, 0, core)[0] for _ in range(2)]
                tried[core] = min(runs, key=lambda figures: figures["seconds"])
    for core, figures in tried.items():
        setting = f"{CORE}={core}" if core else f"no {CORE}"
        print(f"trial of {library}, {setting}: {figures['kernels']} kernels, {figures['seconds']:.2f} s", flush=True)
    # Trials are short: a library's own choice stays unless another is faster beyond their noise.
    best = min(tried, key=lambda core: tried[core]["seconds"])
    return best if tried[best]["seconds"] < TRIAL_GAIN * tried[None]["seconds"] else None


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
    for contender in plan:
        fastest_kernels(contender.split(",")[0])
    print(f"\n{n:,} x {DIMENSIONS}, k={k}, one start unless it says more\n", flush=True)
    heads = ("iterations", "seconds", "s/iteration", "peak GiB", "mean cosine", "kernels")
    print(f"{'':25}" + "".join(f"{head:>12}" for head in heads), flush=True)
    found = {}
    for contender, iterations in plan.items():
        figures = found[contender] = measured(contender, path, k, iterations)
        seconds, done = figures["seconds"], figures["iterations"]
        print(
            f"{contender:25}{done:>12}{seconds:>12.2f}{seconds / done:>12.3f}{figures['gib']:>12.2f}"
            f"{figures['cosine']:>12.4f}{figures['kernels']:>12}",
            flush=True,
        )
    return found


def small(folder: Path) -> None:
    path = folder / "small.npy"
    make_vectors(path, 50_000)
    names = ["shelfkin", "FAISS", "scikit-learn", "MLlib", "scikit-learn, best of 5", "shelfkin, as by default"]
    found = compare(path, 50_000, 60, dict.fromkeys(names, 20))
    ours, best, default = found["shelfkin"], found["scikit-learn, best of 5"], found["shelfkin, as by default"]
    print(f"\nMLlib takes {found['MLlib']['seconds'] / ours['seconds']:.0f} times as long as shelfkin,")
    print(f"shelfkin {ours['seconds'] / found['FAISS']['seconds']:.2f} times as long as FAISS.")
    gap = (1 - default["cosine"]) / (1 - best["cosine"]) - 1
    print(f"As by default (3 starts, to tolerance), shelfkin's objective, 1 - cosine, lies {100 * gap:+.2f}%")
    print("from that of the best of five scikit-learn starts.")


def large(folder: Path) -> None:
    path = folder / "large.npy"
    make_vectors(path, 1_000_000)
    plan = {"shelfkin, on a sample": 0, "shelfkin": 20, "FAISS": 20, "scikit-learn": 5, "MLlib": 3}
    found = compare(path, 1_000_000, 200, plan)
    sampled, whole = found["shelfkin, on a sample"], found["shelfkin"]
    print(f"\nThe fit on a sample takes {sampled['seconds'] / found['FAISS']['seconds']:.2f} times as long as FAISS's,")
    print(f"and {sampled['seconds'] / whole['seconds']:.2f} times as long as shelfkin's fit of all rows;")
    gap = (1 - sampled["cosine"]) / (1 - whole["cosine"]) - 1
    print(f"its objective, 1 - cosine, lies {100 * gap:+.2f}% from that.")


def growth(folder: Path) -> None:
    fastest_kernels("shelfkin")
    print(f"\nHow cost grows (shelfkin in one process, k=200, 10 iterations)\n\n{'rows':>12}{'seconds':>10}")
    sizes, seconds = np.array([100_000, 200_000, 500_000, 1_000_000]), []
    for n in sizes:
        path = folder / f"growth-{n}.npy"
        make_vectors(path, int(n))
        seconds.append(measured("shelfkin", path, 200, 10)["seconds"])
        print(f"{n:>12,}{seconds[-1]:>10.2f}", flush=True)
        path.unlink()
    slope = np.polyfit(np.log(sizes), np.log(seconds), 1)[0]
    per_row, fixed = np.polyfit(sizes, seconds, 1)
    off = np.abs(np.polyval([per_row, fixed], sizes) / seconds - 1).max()
    print(f"\nseconds ~ rows ^ {slope:.2f}: the starts cost the same for any number of rows. The straight line")
    print(f"{fixed:.2f} s + {1e6 * per_row:.2f} s for each million rows is within {off:.0%} of all four.")


def kernels(contender: str) -> str:
    """Return which kernels the BLAS of a contender runs in this process, which has used it."""
    from threadpoolctl import threadpool_info

    folder = BLAS.get(contender.split(",")[0])
    found = {
        entry["architecture"]
        for entry in threadpool_info()
        if entry.get("architecture") and Path(entry["filepath"]).parent.name == folder
    }
    return ", ".join(sorted(found)) or "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", default="all", choices=["all", "small", "large", "growth"])
    parser.add_argument("--one", nargs=6, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.one:
        contender, path, k, iterations, seed, result = flags.one
        found = CONTENDERS[contender](Path(path), int(k), int(iterations), int(seed))
        figures = {"seconds": found.seconds, "iterations": found.iterations}
        figures["kernels"] = kernels(contender)
        np.savez(result, figures=json.dumps(figures), centroids=found.centroids)
        return
    print(f"{os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(prefix="bench-cluster-") as folder:
        for name, part in {"small": small, "large": large, "growth": growth}.items():
            if flags.part in ("all", name):
                part(Path(folder))


if __name__ == "__main__":
    main()
