"""What embedding a store's catalogue would send and cost, before anything is spent.

    bin/estimate.py --store S [--as-of D]      make estimate STORE=... AS_OF=...

Cleans the catalogue and counts the tokens of the texts that the vector store lacks, by the two Spark apps that a run
would use; no request is sent. With OPENAI_API_KEY or OPENAI_BASE_URL set it is their price and their store's gaps.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

from shelfkin.artifacts import Root, RunPaths
from shelfkin.errors import ShelfkinError
from shelfkin.settings import Settings

PROJECT = Path(__file__).resolve().parents[1]


def main(argv: list[str] | None = None) -> int:
    """Run both apps; return the first exit status that isn't 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", default="", help="name of the store profile (default: the default store)")
    parser.add_argument("--as-of", default="", help="date, YYYY-MM-DD (default: the profile's, or today)")
    flags = parser.parse_args(argv)
    settings = Settings.from_env()
    try:
        profile = settings.profile(flags.store or settings.default_store)
        as_of = date.fromisoformat(flags.as_of) if flags.as_of else profile.default_as_of or datetime.now(UTC).date()
    except (ShelfkinError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    run_id = f"estimate-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    paths = RunPaths(Root.at(settings.artifact_root), profile.store, as_of, run_id)
    common = ["--store", profile.store, "--as-of", as_of.isoformat(), "--run-id", run_id]
    manifest = ["--input", paths.manifest_uri("clean_catalog")]
    return app("clean_catalog", common) or app("embed_products", [*common, *manifest, "--estimate"])


def app(name: str, arguments: list[str]) -> int:
    """Run one Spark app on this machine; return its exit status."""
    spark = "--master local[*] --conf spark.ui.enabled=false --conf spark.ui.showConsoleProgress=false pyspark-shell"
    environment = {
        "PYSPARK_SUBMIT_ARGS": spark,
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": "127.0.0.1",
        **os.environ,
    }
    command = [sys.executable, str(PROJECT / "spark_apps" / f"{name}.py"), *arguments]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as child:
        for line in child.stdout or ():
            # "2026-11-24 04:12:33,123 shelfkin message"
            print("  " + line.split(" shelfkin ", 1)[-1].rstrip(), flush=True)
    return child.returncode


if __name__ == "__main__":
    sys.exit(main())
