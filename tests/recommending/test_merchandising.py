"""Caps, variety, pins, boosts, blocks and price bands, on lists worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from shelfkin.profile import BlendWeights, ListRules
from shelfkin.recommending.item_model import ItemModel
from shelfkin.recommending.merchandising import MerchandisingRules, resolve_rules
from shelfkin.recommending.recommender import Recommender
from shelfkin.recommending.repurchase import RepurchasePolicy
from shelfkin.recommending.user_block import UserBlock

IDS = np.array(["a", "b", "c", "d", "e"], dtype=object)
PRICES = np.array([1.0, 5.0, np.nan, 20.0, 9.0])
BRANDS = np.array(["x", "x", "", "y", "x"], dtype=object)
PRODUCTS = pd.DataFrame({"product_id": IDS, "price": PRICES, "brand": BRANDS})
CLUSTERS = np.array([0, 0, 0, 1, -1])
NOTHING_NEAR = sp.csr_array((5, 5))


def rules(**given_rules: object) -> MerchandisingRules:
    return resolve_rules(ListRules(**given_rules), PRODUCTS, CLUSTERS)[0]  # type: ignore[arg-type]


def chosen(found: MerchandisingRules, length: int, content: sp.csr_array = NOTHING_NEAR) -> str:
    items, scores = np.arange(5), np.array([5.0, 4.0, 3.0, 2.0, 1.0])
    return "".join(IDS[items[found.shown_places(items, scores, content, length)]])


@pytest.mark.parametrize(
    ("given_rules", "length", "expected"),
    [
        ({}, 3, "abc"),
        ({"max_per_cluster": 1}, 3, "ade"),
        ({"max_per_cluster": 2}, 4, "abde"),
        ({"max_per_brand": 1}, 3, "acd"),
        # A full list matters more than a cap: b is the best of what had to wait.
        ({"max_per_brand": 1}, 4, "acdb"),
        ({"max_per_cluster": 1, "max_per_brand": 1}, 2, "ad"),
    ],
)
def test_caps(given_rules: dict[str, int], length: int, expected: str) -> None:
    assert chosen(rules(**given_rules), length) == expected


def test_variety_passes_over_what_is_near_to_what_stands_above() -> None:
    near = sp.csr_array((np.array([0.9, 0.9]), ([0, 1], [1, 2])), shape=(5, 5))
    # Relevance is 1, .75, .5, .25, 0; half of it less half of the nearest cosine: b has .375 - .45, c .25, d .125.
    assert chosen(rules(diversity=0.5), 5, near) == "acdeb"
    assert chosen(rules(diversity=0.1), 5, near) == "abcde"


def test_bands_and_blocks_leave_unknown_prices_in() -> None:
    found = rules(min_price=2, max_price=10, blocked=["e"])
    assert IDS[found.allowed].tolist() == ["b", "c"]


def test_what_a_rule_names_and_the_catalogue_lacks_is_said() -> None:
    given_rules = ListRules(pinned=["c", "zz"], blocked=["yy"], boosts={"brand:none": 1.0, "b": 2.0, "brand:x": 0.5})
    found, unknown = resolve_rules(given_rules, PRODUCTS, CLUSTERS)
    assert unknown == ["yy", "brand:none", "zz"]
    assert found.pins.tolist() == [2]
    assert found.boosts.tolist() == [0.5, 2.5, 0, 0, 0.5]


def test_a_boost_is_in_standard_deviations_of_the_scores() -> None:
    scores = np.array([4.0, 2.0, 0.0])
    assert rules(boosts={"c": 2.0}).boosted(np.array([0, 1, 2]), scores) == pytest.approx(
        [4, 2, 2 * np.std(scores)], abs=1e-6
    )


@pytest.mark.parametrize(
    "wrong", [{"min_price": 3, "max_price": 2}, {"pinned": ["a"], "blocked": ["a"]}, {"max_per_brand": 0}]
)
def test_rules_that_contradict_each_other_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ListRules(**wrong)  # type: ignore[arg-type]


def user() -> UserBlock:
    """Bought a three days ago and b forty days ago."""
    return UserBlock(
        indptr=np.array([0, 2]),
        n_orders=np.array([2]),
        items=np.array([0, 1]),
        strengths=np.array([2.0, 1.0]),
        n_bought=np.array([1, 1]),
        recent=np.array([1.0, 0.1]),
        first_days=np.array([3.0, 40.0]),
        last_days=np.array([3.0, 40.0]),
    )


def shop() -> ItemModel:
    return ItemModel(
        product_ids=IDS,
        groups=np.arange(5),
        allowed=np.ones(5, dtype=bool),
        popular=np.array([0.1, 0.2, 0.9, 0.8, 0.7]),
        trending=np.zeros(5),
        rank=np.arange(5),
        co_purchase=NOTHING_NEAR,
        content=NOTHING_NEAR,
    )


WEIGHTS = BlendWeights(own=2.0, co_purchase=0, content=0, popular=1.0, trending=0)


def listed(
    policy: RepurchasePolicy, found: MerchandisingRules, model: ItemModel | None = None
) -> list[tuple[str, str]]:
    (entries,) = Recommender(model or shop(), WEIGHTS, policy, rules=found).recommend(user())
    return [(IDS[entry.item], entry.strategy) for entry in entries]


def test_pins_lead_but_only_what_the_user_may_be_shown() -> None:
    found = rules(pinned=["d", "a"])
    assert [one for one, _ in listed(RepurchasePolicy(4, "allow"), found)] == ["d", "a", "b", "c"]
    assert listed(RepurchasePolicy(2, "exclude"), found) == [("d", "pinned"), ("c", "popular")]


def test_a_twin_of_a_pin_gives_its_place_to_something_else() -> None:
    twins = replace(shop(), groups=np.array([0, 1, 2, 2, 4]))  # c and d are one
    assert [one for one, _ in listed(RepurchasePolicy(4, "allow"), rules(), twins)] == ["a", "b", "c", "e"]
    assert [one for one, _ in listed(RepurchasePolicy(4, "allow"), rules(pinned=["d"]), twins)] == ["d", "a", "b", "e"]
    # With nothing else left it stays, last.
    assert [one for one, _ in listed(RepurchasePolicy(9, "allow"), rules(pinned=["d"]), twins)] == [
        "d",
        "a",
        "b",
        "e",
        "c",
    ]


def test_a_purchase_comes_back_after_so_many_days() -> None:
    assert [one for one, _ in listed(RepurchasePolicy(3, "allow"), rules())] == ["a", "b", "c"]
    assert [one for one, _ in listed(RepurchasePolicy(3, "allow", 30), rules())] == ["b", "c", "d"]
    assert [one for one, _ in listed(RepurchasePolicy(3, "allow", 41), rules())] == ["c", "d", "e"]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_list_is_full_without_repeats_and_follows_the_caps_while_it_can(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 12))
    length = data.draw(st.integers(1, 12))
    groups = np.array(data.draw(st.lists(st.integers(-1, 3), min_size=n, max_size=n)))
    scores = np.sort(np.array(data.draw(st.lists(st.integers(0, 9), min_size=n, max_size=n)), dtype=float))[::-1]
    cap = data.draw(st.integers(1, 3))
    diversity = data.draw(st.sampled_from([0.0, 0.3]))
    none = MerchandisingRules.none(n)
    found = MerchandisingRules(none.allowed, none.boosts, none.pins, ((groups, cap),), diversity)
    places = found.shown_places(np.arange(n), scores, sp.csr_array((n, n)), length)
    assert len(places) == len(set(places.tolist())) == min(n, length)
    possible = sum(min(cap, int((groups == group).sum())) for group in set(groups.tolist()) - {-1})
    possible += int((groups == -1).sum())
    capped = groups[places[: min(possible, length)]]
    assert all((capped == group).sum() <= cap for group in set(capped.tolist()) - {-1})
