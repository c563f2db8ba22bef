"""Airflow on this machine: one run without a scheduler, or all of Airflow on 127.0.0.1.

bin/local_airflow.py setup                     create the metadata database and its pools
bin/local_airflow.py run --store S [--as-of D] [--conf JSON]
bin/local_airflow.py up [--port 8080]          start Airflow in the background and print the login
bin/local_airflow.py down                      stop it and everything that it started
bin/local_airflow.py backfill --store S --from D --to D
bin/local_airflow.py status
"""

from __future__ import annotations

import argparse
import sys

from local_backfill import backfill
from local_home import set_up
from local_run import run_once
from local_server import down, serve, status, up
from shelfkin.errors import ShelfkinError


def main() -> int:
    """Run one command; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, action in {"setup": set_up, "down": down, "status": status}.items():
        commands.add_parser(name).set_defaults(action=lambda flags, action=action: action())
    for name, of_port in {"up": up, "_serve": serve}.items():
        command = commands.add_parser(name)
        command.add_argument("--port", type=int, default=8080)
        command.set_defaults(action=lambda flags, of_port=of_port: of_port(flags.port))
    run = commands.add_parser("run")
    for flag in ("--store", "--as-of", "--conf"):
        run.add_argument(flag, default="")
    run.set_defaults(action=lambda flags: run_once(flags.store, flags.as_of, flags.conf))
    again = commands.add_parser("backfill")
    again.add_argument("--store", default="")
    again.add_argument("--from", dest="first", default="")
    again.add_argument("--to", dest="last", default="")
    again.set_defaults(action=lambda flags: backfill(flags.store, flags.first, flags.last))
    flags = parser.parse_args()
    try:
        return flags.action(flags) or 0
    except ShelfkinError as error:
        print(f"Error: {error.message}\nNext step: {error.next_step or 'see README.'}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
