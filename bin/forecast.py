"""What a backfill would change and embed, before it is made.

    bin/forecast.py --store S --from D --to D      make forecast STORE=... FROM=... TO=...

Cleans the catalogue of every day as its run would today; nothing is embedded or published. The page Backfill in Airflow
shows the result.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, date, datetime

from estimate import app
from shelfkin.errors import ShelfkinError
from shelfkin.settings import Settings


def main(argv: list[str] | None = None) -> int:
    """Run the Spark app; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", default="", help="name of the store profile (default: the default store)")
    parser.add_argument("--from", dest="first", required=True, type=date.fromisoformat, help="first day, YYYY-MM-DD")
    parser.add_argument("--to", dest="last", required=True, type=date.fromisoformat, help="last day, YYYY-MM-DD")
    flags = parser.parse_args(argv)
    settings = Settings.from_env()
    try:
        profile = settings.profile(flags.store or settings.default_store)
    except ShelfkinError as error:
        print(error, file=sys.stderr)
        return 2
    run_id = f"forecast-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    days = ["--from-day", f"{flags.first}", "--as-of", f"{flags.last}"]
    status = app("forecast_backfill", ["--store", profile.store, "--run-id", run_id, *days])
    if status == 0:
        print(f"\nTo do it: make backfill STORE={profile.store} FROM={flags.first} TO={flags.last}")
    return status


if __name__ == "__main__":
    sys.exit(main())
