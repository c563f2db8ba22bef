"""Command line for people: draft and check a profile, look at a published run, or go back to an earlier one.

python -m shelfkin profile --store S --files "articles.csv orders.csv" [--force]
python -m shelfkin check --store S [--as-of D]
python -m shelfkin show [--store S] [--as-of D]
python -m shelfkin recommend --recent P316,P333,P1115 [--store S] [--n 10]
python -m shelfkin rollback --as-of D --reason WHY [--store S]
python -m shelfkin pause --reason WHY [--store S]
python -m shelfkin resume [--store S]
python -m shelfkin prune [--store S] [--keep N] [--yes]
python -m shelfkin forget [--store S] [--user U] [--reason WHY] [--yes]
python -m shelfkin new-revision [--from D]
"""

from __future__ import annotations

import argparse
import getpass
import shlex
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from shelfkin.app import parse_as_of
from shelfkin.artifacts import Root, RunPaths, latest_pointer_uri
from shelfkin.errors import ArtifactError, OptionError, ShelfkinError, without_controls
from shelfkin.lineage import read_lineage, stale_line
from shelfkin.serving.index import open_index
from shelfkin.settings import Settings

DEFAULT_KEPT_DAYS = 90


def read_pointer(settings: Settings, store: str, as_of: str) -> dict[str, Any]:
    """Return the published pointer of a store: of one as_of, or the latest."""
    settings.profile(store)
    root = Root.at(settings.artifact_root)
    uri = latest_pointer_uri(root, store)
    if as_of:
        uri = RunPaths(root, store, parse_as_of(as_of), "").published_uri()
    if not root.exists(uri):
        day = f" as of {as_of}" if as_of else ""
        raise ArtifactError(
            f"Nothing has been published for store {store}{day} under {root.uri}.",
            next_step=f"Run it first: make run STORE={store}" + (f" AS_OF={as_of}" if as_of else ""),
        )
    return root.read_json(uri)


def show(settings: Settings, store: str, as_of: str) -> None:
    """Print a published run."""
    from shelfkin.serving.show import show_run

    pointer = read_pointer(settings, store, as_of)
    root = Root.at(settings.artifact_root)
    warning = stale_line(read_lineage(root, store, parse_as_of(pointer["as_of"])))
    with open_index(root, pointer, _cache()) as index:
        for line in show_run(index, pointer["metrics"], warning):
            print(line)


def recommend(settings: Settings, store: str, recent: str, n: int) -> None:
    """Print products for a handful of recently viewed ids, oldest first, and how long that took."""
    from shelfkin.serving.session import recommend_for_session
    from shelfkin.serving.show import show_session

    recent_ids = [part.strip() for part in recent.split(",") if part.strip()]
    if not recent_ids:
        raise OptionError("No product ids were given.", next_step="Write RECENT=P316,P333,P1115.")
    pointer = read_pointer(settings, store, "")
    with open_index(Root.at(settings.artifact_root), pointer, _cache()) as index:
        began = time.perf_counter()
        session_list = recommend_for_session(index, recent_ids, n)
        elapsed_ms = 1000 * (time.perf_counter() - began)
    for line in show_session(session_list, store, pointer["as_of"]):
        print(line)
    print(f"{len(session_list.items)} products in {elapsed_ms:.1f} ms")


def profile(settings: Settings, store: str, files: str, force: bool) -> None:
    """Draft a store's profile from its files, and print what was sure and what wasn't."""
    from shelfkin.drafting.draft import draft_profile

    path = draft_profile(store, shlex.split(files), settings.stores_dir, force)
    print(path.read_text(encoding="utf-8"))
    print(f"Written to {path}. Correct what it wasn't sure of, then: make check STORE={store}")


def check(settings: Settings, store: str, as_of: str) -> None:
    """Print what a run would make of a store's files."""
    from shelfkin.checking.check import check_store

    began = time.monotonic()
    for line in check_store(settings, store, parse_as_of(as_of) if as_of else None):
        print(line)
    print(f"\nLooked for {time.monotonic() - began:.0f} s.")


def rollback(settings: Settings, store: str, as_of: str, reason: str) -> None:
    """Let readers have an earlier published day again, and pause publishing."""
    from shelfkin.serving.rollback import Decision, roll_back

    settings.profile(store)
    day = parse_as_of(as_of)
    roll_back(Root.at(settings.artifact_root), store, day, Decision(_who(), reason), settings.publish_postgres)
    print(f"Readers of {store} get the run as of {day}. Later runs change that only after: make resume STORE={store}")


def pause(settings: Settings, store: str, reason: str) -> None:
    """Keep what readers get as it is."""
    from shelfkin.serving import rollback

    settings.profile(store)
    rollback.pause(Root.at(settings.artifact_root), store, rollback.Decision(_who(), reason))
    print(f"Readers of {store} keep what they have, until: make resume STORE={store}")


def resume(settings: Settings, store: str) -> None:
    """Let the next published run become the latest again."""
    from shelfkin.serving import rollback

    settings.profile(store)
    rollback.resume(Root.at(settings.artifact_root), store)
    print(f"The next published run of {store} becomes what readers get.")


def prune(settings: Settings, store: str, keep: int | None, yes: bool) -> None:
    """Print which runs may go and, if told to, remove them."""
    from shelfkin.serving.retention import old_runs, remove_runs

    keep = keep or settings.profile(store).retention.published_days or DEFAULT_KEPT_DAYS
    root = Root.at(settings.artifact_root)
    old = old_runs(root, store, keep)
    for folder, n_bytes in old.folders:
        print(f"{n_bytes / 2**20:>9,.1f} MB  {folder}")
    size = sum(n_bytes for _, n_bytes in old.folders) / 2**20
    what = f"{len(old.folders)} runs of {size:,.1f} MB and {len(old.days)} published days"
    if not old.folders and not old.days:
        print("Nothing may go.")
    elif not yes:
        print(f"{what} may go. Remove them: make prune STORE={store} KEEP={keep} YES=1")
    else:
        remove_runs(root, store, old)
        print(f"Removed {what}.")


def forget(settings: Settings, store: str, user: str, reason: str, yes: bool) -> None:
    """Print what a store holds of a customer and, if told to, erase it; without a customer, complete what was begun."""
    from shelfkin.serving import forgetting

    profile, root, postgres = settings.profile(store), Root.at(settings.artifact_root), settings.publish_postgres
    if not user and not yes:
        raise OptionError("No customer was named.", next_step="Write USER=...; YES=1 alone completes what was begun.")
    if not yes:
        done = forgetting.what_would_go(root, profile, user, postgres)
    elif user:
        done = forgetting.forget(root, profile, user, _who(), reason, postgres)
    else:
        done = forgetting.erase_again(root, profile, postgres)
    for line in forgetting.told(done):
        print(line)
    if not yes:
        print(f"would be erased. Do it: make forget STORE={store} USER=... REASON=... YES=1")
        return
    print("were erased. Runs leave out this store's erased customers from now on.")
    print("The shop's own files were not touched, nor Airflow's logs, backups, and copies that others made.")


def new_revision(settings: Settings, _store: str, first: str) -> None:
    """Deliver the living shop's catalogues again, from those that the run as of a day reads."""
    from shelfkin import living_shop

    folder = settings.data_dir / living_shop.STORE
    since = parse_as_of(first) - timedelta(days=1) if first else None
    day, n_products = living_shop.rename_shelf(folder, since)
    old, new = living_shop.RENAMED
    print(
        f"Revision 2 of the catalogues from {day} on: shelf {old!r} is now {new!r} ({n_products} products at the end)."
    )
    first_run, today = day + timedelta(days=1), datetime.now(UTC).date()
    days = f"STORE={living_shop.STORE} FROM={first_run} TO={max(first_run, today)}"
    print(f"What a backfill would do: make forecast {days}")


def _who() -> str:
    return getpass.getuser()


def _cache() -> Path:
    return Path.home() / ".cache" / "shelfkin"


def main() -> int:
    """Parse the command line and run one command; return the exit status."""
    parser = argparse.ArgumentParser(prog="shelfkin", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    shown = commands.add_parser("show", help="clusters, a product with its neighbours, three customers")
    shown.add_argument("--as-of", default="")
    asked = commands.add_parser("recommend", help="products for recently viewed ids")
    asked.add_argument("--recent", required=True, help="product ids, oldest first, separated by commas")
    asked.add_argument("--n", type=int, default=10)
    drafted = commands.add_parser("profile", help="draft a store's profile from its files")
    drafted.add_argument("--files", required=True, help="the shop's files, separated by blanks; globs may be used")
    drafted.add_argument("--force", action="store_true", help="overwrite the profile if there is one")
    checked = commands.add_parser("check", help="what a run would make of a store's files, on a sample")
    checked.add_argument("--as-of", default="")
    back = commands.add_parser("rollback", help="let readers have an earlier published day again")
    back.add_argument("--as-of", required=True)
    stop = commands.add_parser("pause", help="keep what readers get as it is")
    for command in (back, stop):
        command.add_argument("--reason", required=True, help="why, in a few words; it is recorded with your name")
    go_on = commands.add_parser("resume", help="let the next published run become the latest again")
    tidied = commands.add_parser("prune", help="which runs may go; with --yes, remove them")
    tidied.add_argument("--keep", type=int, help="published days that stay (default: the profile's, else 90)")
    tidied.add_argument("--yes", action="store_true", help="remove them")
    forgotten = commands.add_parser("forget", help="what is held of a customer; with --yes, erase it")
    forgotten.add_argument("--user", default="", help="the id, as the shop's files write it")
    forgotten.add_argument("--reason", default="", help="why, without the id; it is recorded with your name")
    forgotten.add_argument("--yes", action="store_true", help="erase it")
    revised = commands.add_parser("new-revision", help="rename a shelf in the living shop's newest catalogues")
    revised.add_argument("--from", dest="first", default="", help="first day whose run reads them")
    actions = {
        drafted: profile,
        checked: check,
        shown: show,
        asked: recommend,
        back: rollback,
        stop: pause,
        go_on: resume,
        tidied: prune,
        forgotten: forget,
        revised: new_revision,
    }
    for command, action in actions.items():
        command.add_argument("--store", default="", required=command is drafted)
        command.set_defaults(action=action)
    flags = parser.parse_args()
    settings = Settings.from_env()
    store = flags.store or settings.default_store
    given = {name: value for name, value in vars(flags).items() if name not in ("command", "store", "action")}
    try:
        flags.action(settings, store, **given)
    except (ShelfkinError, argparse.ArgumentTypeError) as error:
        print(f"Error: {without_controls(str(error), keep=chr(10))}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
