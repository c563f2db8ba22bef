"""What a backfill would change and embed, before it is made.

    bin/forecast.py --store S --from D --to D      make forecast STORE=... FROM=... TO=...

Cleans the catalogue of every day as its run would today; nothing is embedded or published. The page Backfill in Airflow
shows the result.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime

from estimate import app
from shelfkin.errors import ShelfkinError
from shelfkin.schedule import data_intervals, parse_days
from shelfkin.settings import Settings


def main(argv: list[str] | None = None) -> int:
    """Run the Spark app; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", default="", help="name of the store profile (default: the default store)")
    parser.add_argument("--from", dest="first", default="", help="first day, YYYY-MM-DD")
    parser.add_argument("--to", dest="last", default="", help="last day, YYYY-MM-DD")
    flags = parser.parse_args(argv)
    settings = Settings.from_env()
    try:
        profile = settings.profile(flags.store or settings.default_store)
        first, last = parse_days(flags.first, flags.last)
        data_intervals(profile, first, last)  # refused here, before Spark starts
    except ShelfkinError as error:
        print(error, file=sys.stderr)
        return 2
    run_id = f"forecast-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    days = ["--from-day", f"{first}", "--as-of", f"{last}"]
    status = app("forecast_backfill", ["--store", profile.store, "--run-id", run_id, *days])
    if status == 0:
        print(f"\nTo do it: make backfill STORE={profile.store} FROM={first} TO={last}")
    return status


if __name__ == "__main__":
    sys.exit(main())
