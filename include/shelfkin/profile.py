"""Store profiles: one YAML file that describes one shop. Every key, its default and its limits are declared here.

Nothing here imports pyspark or Airflow, so that the DAG processor can read profile names and schedules.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from babel.core import get_global
from croniter import croniter
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from shelfkin.encodings import charset
from shelfkin.errors import ProfileError
from shelfkin.shared_regex import check_regex
from shelfkin.time_patterns import check_time_pattern

# What `embedding.text` may name, beside `catalog.fields.extra`.
RECIPE_FIELDS = ("title", "description", "brand", "category_path", "category", "other_categories")
# Each takes a model of its own to fit; beyond a year of months nothing was tried.
MAX_RANKER_WINDOWS = 12
# A week: the gate, cluster identity, drift and the ranker's reuse look back as far.
MIN_KEPT_DAYS = 7


def _known_to(look_up: Callable[[str], object], what: str) -> AfterValidator:
    """Return the check that a library knows a text as `what`."""

    def check(text: str) -> str:
        try:
            look_up(text)
        except (LookupError, ValueError, OSError) as error:
            raise ValueError(f"{text!r} is not {what} ({error})") from error
        return text

    return AfterValidator(check)


Encoding = Annotated[str, _known_to(charset, "a text encoding such as utf-8, latin-1 or cp1252")]
Pattern = Annotated[str, Field(min_length=1), AfterValidator(check_regex)]
TimePattern = Annotated[str, AfterValidator(check_time_pattern)]
Timezone = Annotated[str, _known_to(ZoneInfo, "an IANA time zone such as Europe/London or UTC")]
Currency = Annotated[str, _known_to(get_global("all_currencies").__getitem__, "a code of ISO 4217 such as EUR or USD")]
Share = Annotated[float, Field(ge=0, le=1)]
Column = Annotated[str, Field(min_length=1)]
Columns = Annotated[tuple[Column, ...], Field(min_length=1)]

# What `${...}` in a path may name; nothing else, so that a profile can't read the environment.
PATH_VARIABLES = ("SHELFKIN_DATA", "SHELFKIN_REFERENCE_DATA")


def _check_path(path: str) -> str:
    for in_braces, bare in re.findall(r"\${([^}]*)}|(?:^|/)\$(\w+)(?=/|$)", path):
        if bare or in_braces not in PATH_VARIABLES:
            known = " or ".join(f"${{{name}}}" for name in PATH_VARIABLES)
            raise ValueError(f"{path!r} names the variable {in_braces or bare}; a path may hold {known}, and no other")
    return path


def _check_cron(line: str) -> str:
    if len(line.split()) != 5:
        raise ValueError(f"{line!r} is not a cron expression of five fields: minute, hour, day, month, weekday")
    try:
        croniter(line).get_next()
    except ValueError as error:
        raise ValueError(f"{line!r} is not a cron expression that ever comes up ({error})") from error
    return line


def _check_clock(text: str) -> str:
    if not re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", text):
        raise ValueError(f"{text!r} is not a time of day from 00:00 to 23:59, such as 06:00")
    return text


FilePath = Annotated[str, Field(min_length=1), AfterValidator(_check_path)]
Cron = Annotated[str, AfterValidator(_check_cron)]
Clock = Annotated[str, AfterValidator(_check_clock)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


# Formats whose files are looked at before Spark reads them. `json` is JSON lines or one array: the file tells.
FILE_FORMATS = ("csv", "tsv", "jsonl", "json", "xml", "parquet", "orc")
# Options that decide what becomes of rows that can't be read: they are always kept and counted.
_OWN_OPTIONS = ("mode", "columnNameOfCorruptRecord", "badRecordsPath", "ignoreCorruptFiles", "ignoreMissingFiles")

# Secrets of this installation: who writes a profile could send them to a server of their own.
_NOT_THE_SHOPS = ("AIRFLOW", "OPENAI", "SHELFKIN")


class Source(_Section):
    """Raw rows in one format: files, or what another of Spark's readers finds (``format: jdbc``).

    `path` is a local path (relative to the profile's folder), or a Hadoop/fsspec URI, or a list of them; it may hold
    globs, and ``${SHELFKIN_DATA}`` or ``${SHELFKIN_REFERENCE_DATA}``. Files ending in .gz are unpacked. `columns` names
    the columns of files without a header. `escape` is the character before a quote inside a quoted field, where quotes
    aren't doubled. `multiline: false` lets Spark split one large CSV file, if no field holds a line break.
    `decimal_mark` settles numbers such as "1,299" where the default guess would be wrong. `options` go to Spark's
    reader as they are; `options_from_env` names the environment variable that holds an option's value, for secrets.
    """

    path: FilePath | Annotated[tuple[FilePath, ...], Field(min_length=1)] | None = None
    format: str = "csv"
    encoding: Encoding = "utf-8"
    separator: str | None = Field(None, min_length=1, max_length=2, description="default: a comma; of tsv, a tab")
    quote: str = Field('"', min_length=1, max_length=1)
    escape: str | None = Field(None, min_length=1, max_length=1, description="default: the quote, doubled")
    header: bool = True
    columns: tuple[str, ...] = ()
    multiline: bool = True
    decimal_mark: Literal[".", ","] | None = None
    options: dict[str, str | int | float | bool] = {}
    options_from_env: dict[str, Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")]] = {}

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths, as the profile writes them; none for a reader that needs none."""
        return (self.path,) if isinstance(self.path, str) else self.path or ()

    @property
    def is_dated(self) -> bool:
        """Whether the path names a snapshot by its date."""
        return any("{snapshot_date}" in path for path in self.paths)

    @model_validator(mode="after")
    def _known_format(self) -> Source:
        if self.format not in FILE_FORMATS and not (self.options or self.options_from_env):
            raise ValueError(
                f"format {self.format!r} is none of {', '.join(FILE_FORMATS)}; another of Spark's, such as jdbc, "
                "needs `options`"
            )
        if self.format in FILE_FORMATS and not self.paths:
            raise ValueError(f"format {self.format} needs `path`")
        own = sorted(set(self.options) & set(_OWN_OPTIONS))
        if own:
            raise ValueError(f"`options` can't set {', '.join(own)}: rows that can't be read are always counted")
        twice = sorted(set(self.options) & set(self.options_from_env))
        if twice:
            raise ValueError(f"{', '.join(twice)} stands in `options` and in `options_from_env`")
        secret = sorted(name for name in self.options if re.search("(?i)passw|secret|token|credential", name))
        if secret:
            raise ValueError(f"{', '.join(secret)} may not stand in a profile; name its variable in `options_from_env`")
        foreign = sorted(name for name in self.options_from_env.values() if name.upper().startswith(_NOT_THE_SHOPS))
        if foreign:
            raise ValueError(f"`options_from_env` can't name {', '.join(foreign)}: it is not the shop's own secret")
        if self.is_dated and len(self.paths) > 1:
            raise ValueError("a path with {snapshot_date} stands alone")
        return self

    @model_validator(mode="after")
    def _columns_for_headerless(self) -> Source:
        is_text = self.format in ("csv", "tsv")
        if is_text and not self.header and not self.columns:
            raise ValueError("header: false needs `columns`, the names of the file's columns in order")
        if self.columns and (self.header or not is_text):
            raise ValueError("`columns` is only for csv and tsv files with header: false")
        return self


class Sourced(_Section):
    """Where the rows of a section come from: one `source`, or named `tables` and a `query` over them in Spark SQL.

    The query's result takes the place of a file: `fields` name its columns. ``:as_of`` in it is the run's date.
    """

    source: Source | None = None
    tables: dict[Annotated[str, Field(pattern=r"^[A-Za-z_]\w{0,99}$")], Source] = {}
    query: str | None = Field(None, min_length=1, description="Spark SQL over `tables`")

    @property
    def sources(self) -> dict[str, Source]:
        """Every source by its key below the section: ``source``, or ``tables.<name>``."""
        if self.source is not None:
            return {"source": self.source}
        return {f"tables.{name}": source for name, source in self.tables.items()}

    @property
    def decimal_mark(self) -> Literal[".", ","] | None:
        """The decimal mark of the source, or of those tables that say one."""
        return next((source.decimal_mark for source in self.sources.values() if source.decimal_mark), None)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.tables) != (self.query is not None):
            raise ValueError("`tables` and `query` go together: named files, and the query that makes rows of them")
        if self.tables and self.source is not None:
            raise ValueError("give `source`, or `tables` and `query`, but not both")
        marks = {source.decimal_mark for source in self.tables.values() if source.decimal_mark}
        if len(marks) > 1:
            raise ValueError("the tables have different decimal_marks; leave it to the query: replace(price, ',', '.')")
        names = [name.lower() for name in self.tables]
        if len(set(names)) < len(names):
            raise ValueError("two tables have the same name; SQL ignores case")
        return self


class IdRule(_Section):
    """How raw ids become ids: outer white space goes, `strip_suffix` goes, case is folded, then `pattern` must match
    the whole id. What doesn't match is not a product (or a user), and is quarantined."""

    pattern: Pattern = r".+"
    case: Literal["keep", "upper", "lower"] = "keep"
    strip_suffix: str = ""


class CatalogFields(_Section):
    """Raw column of each product field.

    `title` may name several columns, joined by ", "; it is empty when the first of them is. A shop without titles
    leaves it out: then `embedding.text`, a recipe of other fields, makes the titles. `category_path` may name several
    columns, one per level; a single column is split at its separators, or read as a JSON list. `extra` names further
    columns that `embedding.text` may use.
    """

    product_id: Column
    title: Column | Columns | None = None
    description: Column | None = None
    brand: Column | None = None
    category_path: Column | Columns | None = None
    price: Column | None = None
    in_stock: Column | None = None
    updated_at: Column | None = None
    extra: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], Column] = {}


class Catalog(Sourced):
    """Where the catalogue is and how to read it.

    kind
        ``snapshot``: undated files, used for every as_of and recorded as ``point_in_time: false``.
        ``dated_snapshots``: a path holds ``{snapshot_date}`` and, optionally, ``{revision}``; a run reads the highest
        revision of the newest date before its as_of.
        ``events``: derived from the order lines before as_of: the most frequent clean title and the last price.
    """

    kind: Literal["snapshot", "dated_snapshots", "events"]
    fields: CatalogFields
    product_id: IdRule = IdRule()
    # Titles, and categories as the shop writes them, that are notes, tests or fees rather than products; matched
    # anywhere in the clean text.
    not_a_product: Pattern | None = None
    not_a_product_category: Pattern | None = None
    category_separator: str | None = Field(None, description="default: the first of > | / :: that occurs")
    parallel_separator: str | None = Field(";", min_length=1, description="between several categories; null: one each")
    placeholder_brands: tuple[str, ...] | None = Field(None, description="default: those of values/words.toml")
    timestamp_format: TimePattern | None = Field(None, description="Spark pattern of updated_at; default: ISO 8601")
    fold_shouting: bool = Field(False, description="turn ALL-CAPS titles and categories into Sentence case")
    max_text_chars: int = Field(8000, ge=20)
    wait_hours: float = Field(
        0, ge=0, le=48, description="that a scheduled run waits for the snapshot of the day before, of dated_snapshots"
    )
    max_quarantined_share: Share = 0.2

    @model_validator(mode="after")
    def _source_fits_kind(self) -> Catalog:
        if self.kind == "events" and self.sources:
            raise ValueError("kind: events derives the catalogue from the event files; leave `source` and `tables` out")
        if self.kind != "events" and not self.sources:
            raise ValueError(f"kind: {self.kind} needs `source`, or `tables` and `query`")
        if (self.kind == "dated_snapshots") != any(source.is_dated for source in self.sources.values()):
            raise ValueError("`{snapshot_date}` in a path goes with kind: dated_snapshots, and only with it")
        if self.wait_hours and self.kind != "dated_snapshots":
            raise ValueError("wait_hours goes with kind: dated_snapshots, and only with it")
        return self


class EventFields(_Section):
    """Raw column of each event field. Without `event_type`, every event is of the first type listed."""

    user_id: Column
    product_id: Column
    occurred_at: Column
    event_type: Column | None = None
    quantity: Column | None = None
    order_id: Column | None = None
    price: Column | None = None


class EventType(_Section):
    """What one kind of event says about taste: `weight`, halved every `half_life_days`.

    A number in place of the keys is the weight. Events of weight 0 are kept, and say nothing about taste. `aliases` are
    further values of the type's column, in any case.
    """

    weight: float = Field(1.0, ge=0)
    half_life_days: float = Field(120.0, gt=0)
    aliases: tuple[str, ...] = ()
    buying: bool = Field(False, description="this type is the sale; default: `purchase`, or the heaviest type")

    @model_validator(mode="before")
    @classmethod
    def _weight_alone(cls, given: Any) -> Any:
        is_number = isinstance(given, int | float) and not isinstance(given, bool)
        return {"weight": given} if is_number else given


def _words_of(event_types: Mapping[str, EventType]) -> list[tuple[str, str]]:
    """Return the values of the type's column, in lower case, each with the type that it is of."""
    return [
        (word, name)
        for name, kind in event_types.items()
        for word in sorted({name.lower(), *(alias.lower() for alias in kind.aliases)})
    ]


def purchase_type(event_types: Mapping[str, EventType]) -> str:
    """Return the event type that counts as buying: as the profile says, else ``purchase``, else the heaviest."""
    marked = [name for name, kind in event_types.items() if kind.buying]
    if marked:
        return marked[0]
    if "purchase" in event_types or not event_types:
        return "purchase"
    return max(sorted(event_types), key=lambda name: event_types[name].weight)


def _check_event_types(event_types: dict[str, EventType]) -> dict[str, EventType]:
    if not event_types:
        raise ValueError("must name one type at least, such as purchase: {}")
    type_of: dict[str, str] = {}
    for word, name in _words_of(event_types):
        if word in type_of:
            raise ValueError(f"{word!r} is a name or alias of two types, {type_of[word]} and {name}")
        type_of[word] = name
    buying = [name for name, kind in event_types.items() if kind.buying]
    if len(buying) > 1:
        raise ValueError(f"buying: true stands at {', '.join(buying)}; one type is the sale, perhaps with aliases")
    if event_types[purchase_type(event_types)].weight == 0:
        raise ValueError(f"{purchase_type(event_types)} counts as buying, so that its weight must be above 0")
    return event_types


EventTypes = Annotated[dict[str, EventType], AfterValidator(_check_event_types)]


class Cancellations(_Section):
    """Which rows undo a purchase: an order id of this pattern, or a negative quantity (a return)."""

    order_id_pattern: Pattern | None = None
    negative_quantity: bool = True


class Events(Sourced):
    """Where the event log is and how to read it."""

    fields: EventFields
    user_id: IdRule = IdRule()
    product_id: IdRule | None = Field(None, description="default: the catalogue's rule")
    timestamp_format: TimePattern | None = Field(None, description="Spark pattern; default: ISO 8601")
    event_types: EventTypes = Field(default_factory=lambda: {"purchase": EventType()})
    ignore: tuple[str, ...] = Field((), description="values of the type's column that aren't wanted; counted apart")
    min_joined_share: Share = Field(0.1, description="of the events, that must name a product of the catalogue")
    cancellations: Cancellations = Cancellations()
    require_positive_price: bool = False
    max_quantity: float | None = Field(None, gt=0)
    earliest: date = Field(
        date(1990, 1, 1), description="older times are placeholders such as 1970-01-01 or 1900-01-01"
    )
    max_quarantined_share: Share = 0.2

    @model_validator(mode="after")
    def _types_need_column(self) -> Events:
        if not self.sources:
            raise ValueError("events need `source`, or `tables` and `query`")
        if self.fields.event_type is None and (len(self.event_types) > 1 or self.ignore):
            raise ValueError(
                "several event_types, or `ignore`, need fields.event_type, the column that tells types apart"
            )
        if self.fields.event_type is not None and "event_types" not in self.model_fields_set:
            raise ValueError(
                "fields.event_type needs event_types, which says what the values of that column are, such as "
                "event_types: {purchase: {aliases: [order]}, view: {weight: 0.1}}"
            )
        for name in {word.lower() for word in self.ignore} & {word for word, _ in _words_of(self.event_types)}:
            raise ValueError(f"{name!r} stands in `ignore` and in event_types")
        if self.require_positive_price and self.fields.price is None:
            raise ValueError("require_positive_price needs fields.price")
        return self


class Embedding(_Section):
    """The text that stands for a product, and the model that embeds it.

    `text` is a recipe: field names in braces; a piece between | bars is left out when a field in it is empty.
    `model` and `dimensions` are what OPENAI_API_KEY or OPENAI_BASE_URL is asked for; without either, or with
    ``model: local``, the bundled model embeds. Tokens are bounded by UTF-8 bytes.
    """

    text: str = "{title}|. {description}"
    model: str = Field("text-embedding-3-small", min_length=1)
    dimensions: int | None = Field(None, ge=1)
    # OpenAI's limits of one request and one input; lower them for a smaller server.
    max_inputs_per_request: int | None = Field(None, ge=1, le=2048, description="default: 512 bundled, 2048 elsewhere")
    max_tokens_per_request: int = Field(300_000, ge=1, le=300_000)
    max_tokens_per_input: int = Field(8192, ge=16, description="longer texts are split at sentences and averaged")
    timeout_s: float = Field(60.0, gt=0, description="longest wait for one answer")
    deadline_s: float = Field(300.0, gt=0, description="from a batch's first failure to its success, waits included")
    # The key's limits, as the account's page shows them; blank: learned from the first answer.
    requests_per_minute: float | None = Field(None, gt=0)
    tokens_per_minute: float | None = Field(None, gt=0)
    requests_per_day: float | None = Field(None, gt=0)
    tokens_per_day: float | None = Field(None, gt=0)
    quota_headroom: float = Field(0.01, ge=0, lt=1, description="share of every limit that is left unused")
    # Servers may count by the second: 60,000 requests a minute as 1,000 a second.
    quota_burst_s: float = Field(5.0, gt=0, le=60, description="seconds' worth of quota that may leave at once")
    max_requests_under_way: int = Field(64, ge=1, le=4096)
    mode: Literal["standard", "batch"] = Field("standard", description="batch: half the price, within a day")
    batch_from_texts: int = Field(10_000, ge=1, description="fewer new texts than this go the standard way")
    batch_poll_s: float = Field(60.0, gt=0)
    batch_max_enqueued_tokens: int | None = Field(None, ge=1, description="the account's batch queue limit")
    max_refused_share: float = Field(
        0.01, ge=0, le=1, description="of the distinct texts, that the server may refuse; one always may"
    )
    retry_refused: bool = Field(False, description="send texts again that the server once refused for good")
    budget_tokens: int | None = Field(None, ge=1, description="a run stops before it spends more")
    budget_usd: float | None = Field(None, gt=0)
    usd_per_million_tokens: float | None = Field(None, ge=0, description="blank: the price table of the package")


class Clustering(_Section):
    """How many clusters, and how much of the catalogue is looked at to find them."""

    k: Annotated[int, Field(ge=1, le=9_999)] | Literal["auto"] = "auto"
    k_min: int = Field(5, ge=2, le=9_999)
    k_max: int = Field(60, ge=2, le=9_999, description="limits of the automatic k: what the shop can make use of")
    # Scores of 8,000 texts have standard errors of about 0.002 (0.012 where some texts stand for hundreds of
    # products), well below their differences between neighbouring k.
    sweep_sample: int = Field(8_000, ge=100, le=50_000, description="distinct texts on which k is chosen")
    # 100,000 vectors of 384 numbers are 150 MB on the driver; ten times as many lower 1 - cosine by 0.3 to 0.5%.
    fit_sample: int = Field(
        100_000, ge=100, le=2_000_000, description="distinct texts on which the clusters are fitted; all are assigned"
    )
    min_cluster_size: int = Field(5, ge=1, description="products; an automatic k with a smaller cluster is set aside")
    max_cluster_share: float = Field(0.5, gt=0, le=1, description="of the products, that one cluster may hold")
    n_starts: int = Field(3, ge=1, le=50, description="random starts of the final fit, of which the best is kept")
    seed: int = Field(0, ge=0)
    # Sends top terms and a few titles of each new cluster to the server of OPENAI_API_KEY or OPENAI_BASE_URL.
    naming_model: str | None = Field(
        None, min_length=1, description="chat model that words the names; blank: none does"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Clustering:
        if self.k_min > self.k_max:
            raise ValueError(f"k_min={self.k_min} exceeds k_max={self.k_max}")
        return self


class BlendWeights(_Section):
    """How much each signal adds to a recommendation's score; each is in [0, 1] before it is weighted.

    own
        What the user has bought or looked at, by faded strength.
    co_purchase
        What customers with the same products have.
    content
        What has a similar text.
    popular, trending
        What sells well these days; what sells better than it used to.
    """

    own: float = Field(1.0, ge=0)
    co_purchase: float = Field(0.4, ge=0)
    content: float = Field(0.0, ge=0)
    popular: float = Field(0.6, ge=0)
    trending: float = Field(0.2, ge=0)


class ListRules(_Section):
    """What the shop wants of its lists beyond their order. The backtest judges lists without these rules."""

    min_price: float | None = Field(None, ge=0, description="cheaper products aren't shown; unknown prices are")
    max_price: float | None = Field(None, ge=0, description="dearer products aren't shown; unknown prices are")
    max_per_cluster: int | None = Field(None, ge=1, description="products of one cluster in a list")
    max_per_brand: int | None = Field(None, ge=1, description="products of one brand in a list")
    diversity: Share = Field(0.0, description="0: best first; towards 1: unlike what stands above (MMR)")
    pinned: list[str] = Field([], max_length=50, description="product ids that lead every list, in this order")
    blocked: list[str] = Field([], description="product ids that are never shown")
    boosts: dict[str, Annotated[float, Field(ge=-10, le=10)]] = Field(
        {}, description="product id or brand:<name> to standard deviations of a list's scores, above or below 0"
    )

    @model_validator(mode="after")
    def _consistent(self) -> ListRules:
        if self.min_price is not None and self.max_price is not None and self.min_price > self.max_price:
            raise ValueError(f"min_price {self.min_price} is above max_price {self.max_price}")
        both = sorted(set(self.pinned) & set(self.blocked))
        if both:
            raise ValueError(f"{', '.join(both)} can't be pinned and blocked")
        return self


class Recommending(_Section):
    """Shape and policy of the lists, the blend behind them, and the window in which they are judged.

    The default blends were tuned on Online Retail, 30-day windows from 2011-05-01 to 2011-08-01.
    """

    list_length: int = Field(20, ge=1, le=500)
    similar_length: int = Field(20, ge=1, le=200)
    repurchase: Literal["allow", "exclude"] = "allow"
    repurchase_after_days: int | None = Field(
        None, ge=1, description="with repurchase: allow, what was bought within so many days doesn't come back yet"
    )
    rules: ListRules = ListRules()
    horizon_days: int = Field(30, ge=1, description="how far ahead a list is judged in the backtest")
    blend: BlendWeights = Field(BlendWeights(), description="for repurchase: allow")
    blend_exclude: BlendWeights = Field(
        BlendWeights(co_purchase=1.0, content=0.2, popular=0.0, trending=0.6), description="for repurchase: exclude"
    )
    popular_half_life_days: float = Field(4.0, gt=0, description="popular means: in orders of the last days")
    ease_max_items: int = Field(5000, ge=0, le=20000, description="above: item-kNN in place of EASE^R")
    ease_l2: float = Field(200.0, gt=0, description="ridge penalty of EASE^R")
    max_fall: Share = Field(0.25, description="share of the last published NDCG@10 that a new run may lose")
    ranker_windows: int = Field(
        3, ge=0, le=MAX_RANKER_WINDOWS, description="past windows the ranker learns from; 0: the blend ranks"
    )
    ranker_max_age_days: int = Field(
        7, ge=0, description="rankers of a published day are reused until they are so old; 0: learn in every run"
    )
    ranker_seed: int = Field(0, ge=0, description="of the ranker's samples of rows and features")
    similar_content_share: Share = Field(0.7, description="weight of content in similar products; co-purchase the rest")
    # Exactness is worth some seconds: see docs/decisions/0033-nearest-texts-by-faiss.md.
    search_exact_up_to: int = Field(
        50_000, ge=0, description="distinct texts that are all compared with each other; beyond, only likely ones are"
    )
    search_recall: float = Field(
        0.98, gt=0, le=0.999, description="share of the true neighbours that the search beyond must find"
    )
    variants: bool = Field(True, description="group near-identical products, and show one of a group in a list")
    variants_by_colour: bool = Field(
        True,
        description="colours are variants; false where a colour is a kind, as of wine or beans",
    )
    variants_min_cosine: float = Field(0.75, ge=0, le=1, description="of a variant's text with its group's middle")

    def blend_for(self, repurchase: str) -> BlendWeights:
        """Return the weights of a repurchase policy."""
        return self.blend if repurchase == "allow" else self.blend_exclude


class Retention(_Section):
    """What the daily DAG ``retention`` removes; what is left out is kept for good."""

    published_days: int | None = Field(
        None,
        ge=MIN_KEPT_DAYS,
        description="newest published days that stay with their runs; readers' own day always does",
    )
    quarantine_days: int | None = Field(
        None, ge=1, description="days that rows turned away stay for looking at; their counts always do"
    )


class StoreProfile(_Section):
    """One shop, as one YAML file describes it.

    ``schedule`` is a cron expression on the clock of ``timezone``, where the day ``start_date`` begins as well. Without
    one the store is frozen and runs only when triggered, then usually with ``default_as_of``, which also pre-fills the
    trigger form. ``publish_by``, a time of day on the same clock, is when a scheduled run is late. When the DAG was
    paused, new or down, its newest ``catchup_runs`` missed runs are made up, no older ones.
    """

    store: str = Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")
    title: str
    description: str = ""
    timezone: Timezone = "UTC"
    currency: Currency | None = None
    schedule: Cron | None = None
    publish_by: Clock | None = None
    start_date: date | None = Field(None, ge=date(1970, 1, 1))
    catchup_runs: int = Field(1, ge=1, le=366, description="newest scheduled runs that are made up after a pause")
    default_as_of: date | None = None
    max_staleness_days: int | None = Field(None, ge=1)
    enabled: bool = True
    materialise: Literal["complete_journey", "living_shop"] | None = None
    missing_words: tuple[str, ...] | None = Field(
        None, description="texts that mean no value, in any field; default: those of values/words.toml"
    )
    catalog: Catalog
    events: Events | None = None
    embedding: Embedding = Embedding()
    clustering: Clustering = Clustering()
    recommending: Recommending = Recommending()
    retention: Retention = Retention()

    @model_validator(mode="after")
    def _consistent(self) -> StoreProfile:
        if self.catalog.kind == "events" and self.events is None:
            raise ValueError("catalog.kind: events needs an `events` section")
        if self.schedule is not None and self.start_date is None:
            raise ValueError("schedule needs start_date, the first day that a backfill may reach")
        if self.publish_by is not None and self.schedule is None:
            raise ValueError("publish_by needs a schedule: a run by hand is never late")
        return self

    @model_validator(mode="after")
    def _known_recipe(self) -> StoreProfile:
        fields = self.catalog.fields
        known = {*RECIPE_FIELDS, *fields.extra} - ({"title"} if fields.title is None else set())
        if set(fields.extra) & set(RECIPE_FIELDS):
            raise ValueError(f"catalog.fields.extra can't use the names {sorted(RECIPE_FIELDS)}")
        unknown = set(re.findall(r"{([^}]*)}", self.embedding.text)) - known
        if unknown == {"title"}:
            raise ValueError(
                "catalog.fields.title is missing: name the column of titles; or, for a shop without titles, give "
                f"embedding.text a recipe of {sorted(known)}"
            )
        if unknown:
            raise ValueError(f"embedding.text names {sorted(unknown)}; a recipe may use {sorted(known)}")
        return self

    @property
    def catalog_events(self) -> Events | None:
        """The event log that the catalogue is derived from; None where it has a source of its own."""
        return self.events if self.catalog.kind == "events" else None

    @property
    def catalog_source(self) -> Sourced:
        """The section that says where the catalogue's rows come from."""
        return self.catalog if self.catalog_events is None else self.catalog_events

    @property
    def point_in_time(self) -> bool:
        """Whether a run as of a past day sees the catalogue as it was then."""
        return self.catalog.kind != "snapshot" or ":as_of" in (self.catalog.query or "")


def columns_of(named: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """Return the columns that a key with one or several of them names."""
    if named is None:
        return ()
    return (named,) if isinstance(named, str) else named


def store_names(stores_dir: Path) -> list[str]:
    """Return the names of all profiles in a folder, sorted."""
    return sorted(path.stem for path in stores_dir.glob("*.yaml"))


def resolve_path(path: str, profile_dir: Path, variables: Mapping[str, str | None]) -> str:
    """Return a profile's path as an absolute path or URI.

    Parameters
    ----------
    variables
        What `PATH_VARIABLES` are; None where one isn't set.

    Raises
    ------
    ProfileError
        The path names a variable that isn't set.
    """
    for name, value in variables.items():
        written = f"${{{name}}}"
        if written in path and not value:
            raise ProfileError(
                f"path {path!r} needs {name}, which is not set.",
                next_step=f"Set {name} to the folder that holds this data; README says where to get it.",
            )
        path = path.replace(written, value or "")
    if "://" in path:
        return path
    return str(profile_dir / Path(path).expanduser())
