"""Forgetting a customer: into the list that runs read, then out of everything that runs have left behind."""

from __future__ import annotations

from shelfkin.artifacts import Root
from shelfkin.erased_users import ErasedUsers, record_erased, record_rows
from shelfkin.errors import OptionError
from shelfkin.profile import StoreProfile
from shelfkin.serving.erasure import Erasure, erase, erased_users
from shelfkin.settings import PostgresTarget


def to_forget(root: Root, profile: StoreProfile, user: str) -> ErasedUsers:
    """Return a list of one customer; raises OptionError if the shop knows no customers, or none is named."""
    if profile.events is None:
        raise OptionError(f"Store {profile.store} has no events, so it knows no customers.")
    return erased_users(root, profile).only(user)


def what_would_go(root: Root, profile: StoreProfile, user: str, postgres: PostgresTarget | None) -> Erasure:
    """Return what forgetting a customer would erase; nothing is changed."""
    return erase(root, profile, to_forget(root, profile, user), postgres, do=False)


def forget(root: Root, profile: StoreProfile, user: str, by: str, why: str, postgres: PostgresTarget | None) -> Erasure:
    """Forget a customer.

    Raises
    ------
    OptionError
        No customer is named, or there is no fit reason.
    PublishError, PublishUnavailableError
        The database refused, or was not to be had; `erase_again` completes it.
    """
    record_erased(root, profile.store, to_forget(root, profile, user), by, why)
    return erase_again(root, profile, postgres)


def erase_again(root: Root, profile: StoreProfile, postgres: PostgresTarget | None) -> Erasure:
    """Erase every customer of the list wherever one is found: what was cut short, or written meanwhile."""
    erased = erased_users(root, profile)
    if not erased:
        return Erasure()
    done = erase(root, profile, erased, postgres, do=True)
    record_rows(root, profile.store, erased, done.account())
    return done


def told(done: Erasure) -> list[str]:
    """Return what was or would be erased, for a person."""
    lines = [f"{n:>9,}  {what.replace('_', ' ')}" for what, n in sorted(done.rows.items())]
    lines.append(f"in {len(done.runs):,} runs" if done.runs else "No run holds any.")
    lines += [f"May be at work, so it was left: {uri}" for uri in done.at_work]
    return lines
