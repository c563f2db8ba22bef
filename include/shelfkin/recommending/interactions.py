"""What every user did with every product, as weights that fade with time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.settings import EventType

# Finer than any signal; what is stored and compared has so many decimals.
DECIMALS = 6

# What a user wants now fades four times as fast as what the user likes: with half-lives of 120 days, after 30.
RECENT_SHARE = 0.25

# Arrays of one length per user, and what one number per user says; `candidates.UserBlock` holds the same.
HISTORY_ARRAYS = ("items", "strengths", "n_bought", "recent", "first_days", "last_days")
HISTORY_COLUMNS = ("user_id", "n_orders", *HISTORY_ARRAYS)

# An anonymous order of n products holds n * (n - 1) pairs: unchecked, a few wholesalers' orders of hundreds of lines
# decide what goes with what. Measured on Online Retail (mean of four 30-day windows, May to August 2011, task new,
# NDCG@10): .1514 with anonymous orders at full weight, .1549 with this limit, .1548 without anonymous orders.
FULL_WEIGHT_PRODUCTS = 20

_SECONDS_PER_DAY = 86_400.0
_PER_UNIT = 1e9


def purchase_type(event_types: Mapping[str, EventType]) -> str:
    """Return the event type that counts as buying: ``purchase`` if there is one or no type, else the heaviest."""
    if "purchase" in event_types or not event_types:
        return "purchase"
    return max(sorted(event_types), key=lambda name: event_types[name].weight)


def age_days(occurred_at: Column, as_of: datetime) -> Column:
    """Return how many days before `as_of` something happened, as a double."""
    return (F.lit(as_of.timestamp()) - occurred_at.cast("double")) / F.lit(_SECONDS_PER_DAY)


def decay(age: Column, half_life_days: Column | float) -> Column:
    """Return ``0.5 ** (age / half_life_days)``: 1 today, one half after one half-life."""
    half_life = half_life_days if isinstance(half_life_days, Column) else F.lit(float(half_life_days))
    return F.pow(F.lit(0.5), age / half_life)


def exact(values: Column) -> Column:
    """Return doubles as whole numbers of billionths, whose sums are the same in any order of rows.

    A sum of doubles depends in its last digit on the order in which partitions arrive, and rounding only makes it rare
    that this shows. Whole numbers, because Spark sums decimals of more than 18 digits half as fast. A sum beyond 9e9
    fails as an overflow.
    """
    return _nearest(values * F.lit(_PER_UNIT))


def rounded(sums: Column) -> Column:
    """Return sums of `exact` values as doubles, rounded to `DECIMALS`."""
    return _nearest(sums / F.lit(_PER_UNIT / 10**DECIMALS)) / F.lit(10.0**DECIMALS)


def _nearest(values: Column) -> Column:
    """Return the nearest whole numbers, a half upwards; Spark's ``round`` makes a decimal of every double first."""
    return F.floor(values + F.lit(0.5))


def exact_sum(values: Column) -> Column:
    """Return the sum of doubles in a group, rounded to `DECIMALS` and the same in any order of rows, see `exact`."""
    return rounded(F.sum(exact(values)))


def orders(events: DataFrame, items: DataFrame) -> DataFrame:
    """Return one row per user, product, kind of event and order.

    Two lines of one order say no more about taste than one. A user's events without an order id count once a day.
    Those of nobody known, without an order id either, count once each moment: a day holds many customers.

    Parameters
    ----------
    events
        Contract table ``events``, already cut at the run's as_of.
    items
        Columns ``product_id`` string and ``item`` int; events of other products are left out.

    Returns
    -------
    DataFrame
        ``user_id`` string?, ``item`` int, ``event_type`` string, ``order_id`` string?, ``order_key`` string (the order,
        or what stands in for it), ``started_at`` and ``occurred_at`` timestamp (the order's first and last line).
    """
    moment = F.when(F.col("user_id").isNull(), F.col("occurred_at").cast("string"))
    order = F.coalesce(F.col("order_id"), moment, F.to_date("occurred_at").cast("string"))
    return (
        events.join(F.broadcast(items), "product_id", how="inner")
        .groupBy("user_id", "item", "event_type", "order_id", order.alias("order_key"))
        .agg(F.min("occurred_at").alias("started_at"), F.max("occurred_at").alias("occurred_at"))
        .select("user_id", "item", "event_type", "order_id", "order_key", "started_at", "occurred_at")
    )


def orders_before(orders: DataFrame, as_of: datetime) -> DataFrame:
    """Return `orders` as they stood at a moment, so that one table serves every moment that is looked back on.

    Of an order that went on at `as_of`, ``occurred_at`` is the first line: the last one before `as_of` isn't known.
    """
    moment = F.lit(as_of)
    known = F.when(F.col("occurred_at") < moment, F.col("occurred_at")).otherwise(F.col("started_at"))
    return orders.filter(F.col("started_at") < moment).withColumn("occurred_at", known)


def user_histories(orders: DataFrame, event_types: Mapping[str, EventType], as_of: datetime) -> DataFrame:
    """Return every known user's products with their faded weights.

    The strength of a product is the sum over its orders of ``weight * 0.5 ** (age_days / half_life_days)``, with weight
    and half-life of the event's type.

    Parameters
    ----------
    orders
        Result of `orders`.
    event_types
        The profile's event types.
    as_of
        Moment that ages are counted from (UTC).

    Returns
    -------
    DataFrame
        One row per user: ``user_id`` string, ``n_orders`` int, and arrays of one length, by rising item: ``items``
        array<int>, ``strengths`` array<double>, ``n_bought`` array<int> (orders that bought it; 0: only looked at),
        ``recent`` array<double> (strengths that fade four times as fast), ``first_days`` and ``last_days``
        array<double> (days from the first and the last event with it to `as_of`).
    """
    known = orders.filter(F.col("user_id").isNotNull())
    n_orders = known.groupBy("user_id").agg(F.countDistinct("order_key").cast("int").alias("n_orders"))
    return _strengths_by(known, "user_id", event_types, as_of).join(n_orders, "user_id", how="inner")


def anonymous_baskets(orders: DataFrame, event_types: Mapping[str, EventType], as_of: datetime) -> DataFrame:
    """Return the products of every order that names no user, in the shape of `user_histories`.

    What one order holds went to one customer, whoever that was: such orders tell which products belong together, and
    nothing else. Baskets of one product are left out, because they hold no pair; in baskets of more than
    `FULL_WEIGHT_PRODUCTS` each product counts less, so that no order speaks louder than one of that size.

    Parameters
    ----------
    orders, event_types, as_of
        As in `user_histories`.

    Returns
    -------
    DataFrame
        One row per order: ``order_id`` string, and the arrays.
    """
    anonymous = orders.filter(F.col("user_id").isNull() & F.col("order_id").isNotNull())
    share = F.least(F.lit(1.0), F.lit(float(FULL_WEIGHT_PRODUCTS)) / F.size("items"))
    return (
        _strengths_by(anonymous, "order_id", event_types, as_of)
        .filter(F.size("items") > 1)
        .withColumns(
            {
                name: F.transform(name, lambda value: F.round(value * share, DECIMALS))
                for name in ("strengths", "recent")
            }
        )
    )


def _strengths_by(orders: DataFrame, key: str, event_types: Mapping[str, EventType], as_of: datetime) -> DataFrame:
    """Return the faded weights of each key's products as arrays, see `user_histories`."""
    weight, half_life = _per_type(event_types)
    age = age_days(F.col("occurred_at"), as_of)
    bought = (F.col("event_type") == purchase_type(event_types)).cast("int")
    pairs = orders.groupBy(key, "item").agg(
        exact_sum(weight * decay(age, half_life)).alias("strengths"),
        F.sum(bought).cast("int").alias("n_bought"),
        exact_sum(weight * decay(age, half_life * F.lit(RECENT_SHARE))).alias("recent"),
        F.round(F.max(age), DECIMALS).alias("first_days"),
        F.round(F.min(age), DECIMALS).alias("last_days"),
    )
    # The item first: the arrays are sorted by it.
    row = F.struct(F.col("item").alias("items"), *HISTORY_ARRAYS[1:])
    return (
        pairs.groupBy(key)
        .agg(F.sort_array(F.collect_list(row)).alias("rows"))
        .select(key, *(F.col(f"rows.{name}").alias(name) for name in HISTORY_ARRAYS))
    )


def known_users(events: DataFrame, histories: DataFrame) -> DataFrame:
    """Return `histories` with an empty history for users all of whose products have left the catalogue."""
    users = events.filter(F.col("user_id").isNotNull()).select("user_id").distinct()
    types = dict(histories.dtypes)
    return users.join(histories, "user_id", how="left").select(
        "user_id",
        F.coalesce("n_orders", F.lit(0)).alias("n_orders"),
        *(F.coalesce(name, F.array().cast(types[name])).alias(name) for name in HISTORY_ARRAYS),
    )


def _per_type(event_types: Mapping[str, EventType]) -> tuple[Column, Column]:
    weight, half_life = F.lit(0.0), F.lit(1.0)
    for name, kind in sorted(event_types.items()):
        is_type = F.col("event_type") == name
        weight = F.when(is_type, F.lit(kind.weight)).otherwise(weight)
        half_life = F.when(is_type, F.lit(kind.half_life_days)).otherwise(half_life)
    return weight, half_life
