"""The flags that say how lists look: the same for the lists that are judged and the lists that are built."""

from __future__ import annotations

import argparse

from shelfkin.app import optional
from shelfkin.recommending.repurchase import RepurchasePolicy
from shelfkin.stage import Stage


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the lists; "" means as the profile says."""
    parser.add_argument("--list-length", type=optional(int), help="products per list")
    parser.add_argument("--repurchase", type=optional(str), help="allow or exclude past purchases")
    parser.add_argument("--repurchase-after-days", type=optional(int), help="days before a past purchase may come back")


def policy_of(stage: Stage) -> RepurchasePolicy:
    """Return what this run's lists may hold: as the flags say, and where they say nothing as the profile says."""
    options, settings = stage.options, stage.profile.recommending
    return RepurchasePolicy(
        list_length=settings.list_length if options.list_length is None else options.list_length,
        repurchase=options.repurchase or settings.repurchase,
        repurchase_after_days=(
            settings.repurchase_after_days if options.repurchase_after_days is None else options.repurchase_after_days
        ),
    )
