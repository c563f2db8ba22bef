"""Drafts of profiles: what is said, what is escaped, and what is never overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from drafting.made_shops import SHOPS, put, table
from shelfkin.drafting.column_facts import time_format
from shelfkin.drafting.draft import draft_profile
from shelfkin.drafting.field_names import event_word, is_lost, name_score
from shelfkin.drafting.shop_file import _whole_lines, common_path, find_encoding
from shelfkin.errors import OptionError, SourceError
from shelfkin.profile_file import load_profile


def draft(folder: Path, *files: Path, force: bool = False) -> str:
    path = draft_profile("made", [str(file) for file in files], folder / "stores", force)
    load_profile(path)
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Grüße;Straße;Müsli 12,50 €", "cp1252"),
        ("Dřevěný stůl;Žlutá židle;Příborník", "cp1250"),
        ("Żółta łyżka;Krzesło dębowe", "cp1250"),
        ("Кружка синяя;Стол деревянный", "cp1251"),
        ("Yeşil fincan;Büyük çanta;Ahşap", "cp1254"),
        ("緑茶の缶;テーブル;いす", "cp932"),
        ("초록 머그컵;나무 의자", "cp949"),
        ("绿色茶杯;木椅;大号枕头", "gb18030"),
        ("Käse", "utf-8"),
        ("Käse", "utf-16"),
        ("plain", "utf-8"),
    ],
)
def test_encodings_are_told_by_the_letters_that_come_out(text: str, encoding: str) -> None:
    found, doubt = find_encoding([f"1;{text}\n".encode(encoding) * 5])
    assert found == encoding
    assert (doubt is None) == encoding.startswith("utf"), "a guess is said, a certainty isn't"


@pytest.mark.parametrize(
    ("field", "column"),
    [
        ("product_id", "Artikel-Nr."),
        ("product_id", "Réf. produit"),
        ("product_id", "商品コード"),
        ("title", "Nazwa produktu"),
        ("title", "Наименование"),
        ("user_id", "Kundennummer"),
        ("user_id", "customer.id"),
        ("occurred_at", "Fecha de compra"),
        ("quantity", "Stückzahl"),
        ("order_id", "Nº pedido"),
        ("category_path", "Warengruppe"),
        ("price", "Prix TTC"),
        ("price", "Brutto-VK"),
        ("user_id", "cliente.id"),
        ("user_id", "注文者メールアドレス"),
        ("product_id", "商品管理番号"),
        ("order_id", "increment_id"),
    ],
)
def test_names_in_many_languages(field: str, column: str) -> None:
    assert name_score(field, column)[0] > 0.6


@pytest.mark.parametrize(
    ("field", "column"), [("title", "Category name"), ("user_id", "Customer type"), ("price", "Total price")]
)
def test_names_that_only_look_like_a_field(field: str, column: str) -> None:
    assert name_score(field, column)[0] == 0


@pytest.mark.parametrize(
    ("values", "pattern"),
    [
        (("31.12.2023 10:00", "1.2.2024 9:30"), "d.M.yyyy H:mm"),
        (("12/31/2023", "01/15/2024"), "M/d/yyyy"),
        (("31/12/2023", "15/01/2024"), "d/M/yyyy"),
        (("2024年5月1日", "2024年12月31日"), "yyyy年M月d日"),
        (("05/06/2024 01:30 PM", "12/31/2024 11:00 AM"), "M/d/yyyy h:mm a"),
        (("3/14/24 5:07 PM", "12/1/24 11:59 AM"), "M/d/yy h:mm a"),
        (("6/13/23, 3:05 PM",), "M/d/yy, h:mm a"),
        (("2024-03-14 05:07 PM", "2024-03-15 12:00 am"), "yyyy-M-d h:mm a"),
        (("2014-12-06 02", "2014-12-07 23"), "yyyy-M-d H"),
        (("14/Mar/2024:17:07:12 +0100",), "d/MMM/yyyy:H:mm:ss Z"),
        (("14-Mar-24",), "d-MMM-yy"),
        (("May-14-24",), "MMM-d-yy"),
    ],
)
def test_time_formats(values: tuple[str, ...], pattern: str) -> None:
    found = time_format(values)
    assert found is not None
    assert found.pattern == pattern


def test_a_day_that_could_be_a_month_is_said() -> None:
    found = time_format(("05/06/2024", "01/02/2024"))
    assert found is not None
    assert found.doubt is not None
    assert "which is the day" in found.doubt


@pytest.mark.parametrize(
    ("digits", "unit"), [(10, "seconds"), (13, "milliseconds"), (16, "microseconds"), (19, "nanoseconds")]
)
def test_epochs_need_no_pattern(digits: int, unit: str) -> None:
    found = time_format((f"1714640400{'0' * (digits - 10)}",))
    assert found is not None
    assert (found.pattern, found.kind) == (None, f"{unit} since 1970")


def test_an_article_number_is_no_date() -> None:
    assert time_format(("12-A4-1234", "10-200-3000")) is None


@pytest.mark.parametrize(
    ("status", "lost"),
    [
        ("Canceled by customer", True),
        ("Cancelled - no payment", True),
        ("キャンセル確定", True),
        ("Storniert (Kunde)", True),
        ("partially refunded", False),
        ("Refund requested", False),
        ("not cancelled", False),
        ("Paiement accepté", False),
        ("unavailable", True),
    ],
)
def test_orders_that_never_became_a_purchase(status: str, lost: bool) -> None:
    assert is_lost(status) == lost


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("ORDER_PLACED", "purchase"),
        ("PRODUCT_VIEW", "view"),
        ("Payment", "purchase"),
        ("Refund", "returns"),
        ("hover", None),
    ],
)
def test_event_types_by_their_words(word: str, kind: str | None) -> None:
    assert event_word(word) == kind


def test_letters_are_never_cut_when_an_encoding_is_looked_for() -> None:
    lines = ("商品,毎日の暮らしに。" * 10 + "\n") * 2000
    others = "新しい石鹸\n" * 9000
    found, _ = find_encoding(
        [("品番,商品名\nx" + lines).encode("cp932")], _whole_lines(others.encode("cp932"), 50 << 10)
    )
    assert found == "cp932"


@pytest.mark.parametrize(
    ("paths", "common"),
    [
        (["/x/a-05.csv", "/x/a-06.csv"], "/x/a-0*.csv"),
        (["/x/2024/05/a.csv", "/x/2024/06/a.csv", "/x/2023/12/a.csv"], "/x/202*/*/a.csv"),
        (["/x/a.csv"], "/x/a.csv"),
        (["/x/aa1.csv", "/x/a1.csv"], "/x/a*1.csv"),
    ],
)
def test_one_path_for_several_files(paths: list[str], common: str) -> None:
    assert common_path([Path(each) for each in paths]) == common


def test_ids_by_a_rule_win_over_ids_that_never_join(tmp_path: Path) -> None:
    products = [["id", "name", "reference"], *[[i, f"Lamp {i}", f"{900 + i:07d}"] for i in range(30)]]
    orders = [["order_no", "customer_id", "date", "ref"]]
    orders += [[i, i % 7, "2024-05-01", 900 + i % 30] for i in range(60)]
    text = draft(tmp_path, put(tmp_path / "p.csv", table(products)), put(tmp_path / "orders.csv", table(orders)))
    assert "(ref = reference, without leading zeros)" in text


def test_categories_between_commas_need_one_root(tmp_path: Path) -> None:
    head = ["sku", "title", "category"]
    magento = [head, *[[i, f"Lamp {i}", "Shop/Men,Shop/Men/Tops"] for i in range(9)]]
    names = [head, *[[i, f"Lamp {i}", "Home, Kitchen > Pots, Pans"] for i in range(9)]]
    assert "parallel_separator: ','" in draft(tmp_path, put(tmp_path / "a.csv", table(magento)))
    assert "parallel_separator" not in draft(tmp_path, put(tmp_path / "b.csv", table(names)), force=True)


def test_event_types_that_nobody_knows_are_guessed_aloud(tmp_path: Path) -> None:
    rows = [["user_id", "item_id", "action_type", "time"]]
    rows += [[i % 7, i % 10, [0, 0, 0, 1, 2][i % 5], f"2024-05-01 10:{i:02d}"] for i in range(60)]
    text = draft(tmp_path, put(tmp_path / "log.csv", table(rows)))
    assert "event_types: what action_type means isn't known" in text
    assert "view: {weight: 0.1, half_life_days: 30, aliases: ['0']}" in text


def test_a_customer_called_0_may_be_one(tmp_path: Path) -> None:
    rows = [["order_id", "customer_id", "date", "sku"], *[[i, i % 7, "2024-05-01", i % 5] for i in range(60)]]
    assert "guests" not in draft(tmp_path, put(tmp_path / "orders.csv", table(rows)))


@pytest.mark.parametrize(
    ("price", "currency"),
    [
        ("150.000đ", "VND"),
        ("₪ 49.90", "ILS"),
        ("12,50 €", "EUR"),
        ("R$ 1.234,56", "BRL"),
        ("$ 5.00", "USD"),
        ("1 290,50", None),
    ],
)
def test_the_currency_that_prices_name(tmp_path: Path, price: str, currency: str | None) -> None:
    rows = [["sku", "title", "Giá bán"], *[[i, f"Lamp {i}", price] for i in range(9)]]
    text = draft(tmp_path, put(tmp_path / "p.csv", table(rows)))
    assert yaml.safe_load(text).get("currency") == currency
    assert ("$ is taken for USD" in text) == (currency == "USD")


def test_pieces_with_three_decimals_are_no_thousands(tmp_path: Path) -> None:
    rows = [["order_no", "customer_no", "date", "sku", "qty"]]
    rows += [[i, i % 7, "2024-05-01", i % 5, f"{1 + i % 3},000"] for i in range(60)]
    profile = yaml.safe_load(draft(tmp_path, put(tmp_path / "orders.csv", table(rows, ";"))))
    tables = profile["events"]["tables"]
    assert tables["orders"]["decimal_mark"] == ","


def test_lines_above_the_header_are_said(tmp_path: Path) -> None:
    articles = put(tmp_path / "p.csv", "sku,title\n1,Lamp\n2,Chair\n")
    rows = "".join(f"o{i},b{i % 7},2024-05-01,{1 + i % 2}\n" for i in range(20))
    orders = put(tmp_path / "o.csv", "Orders of May\n\nOrder ID,Buyer ID,Order Date,SKU\n" + rows)
    assert "its first line, 'Orders of May', is no header" in draft(tmp_path, articles, orders)
    put(tmp_path / "o.csv", "\n\nOrder ID,Buyer ID,Order Date,SKU\n" + rows)
    assert "100% filled, 7 different: b0, b1, b2" in draft(tmp_path, articles, orders, force=True)


def test_returns_with_positive_quantities_buy_nothing(tmp_path: Path) -> None:
    rows = [["receipt_id", "customer_id", "date", "sku", "qty", "event_type"]]
    rows += [[i, i % 7, "2024-05-01", i % 5, 1, "Sale" if i % 9 else "Return"] for i in range(60)]
    profile = yaml.safe_load(draft(tmp_path, put(tmp_path / "till.csv", table(rows))))
    assert profile["events"]["ignore"] == ["Return"]


def test_a_profile_is_overwritten_only_on_request(tmp_path: Path) -> None:
    file = put(tmp_path / "articles.csv", "sku,title\n1,Lamp\n2,Chair\n")
    draft(tmp_path, file)
    path = tmp_path / "stores" / "made.yaml"
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(OptionError, match="exists"):
        draft(tmp_path, file)
    assert path.read_text(encoding="utf-8") == "mine"
    assert "product_id: sku" in draft(tmp_path, file, force=True)


@pytest.mark.parametrize("files", [["none.csv"], ["empty.csv"], ["words.csv"], ["book.xlsx"]])
def test_what_cannot_be_drafted_leaves_no_profile(tmp_path: Path, files: list[str]) -> None:
    put(tmp_path / "empty.csv", "")
    put(tmp_path / "words.csv", "colour,mood\nred,good\nblue,bad\n")
    put(tmp_path / "book.xlsx", "PK\x03\x04 and more")
    with pytest.raises((OptionError, SourceError)):
        draft(tmp_path, *[tmp_path / name for name in files])
    assert not (tmp_path / "stores" / "made.yaml").exists()


def test_what_a_file_holds_cannot_leave_its_comment(tmp_path: Path) -> None:
    hostile = 'Lamp\nstore: stolen\r\u2028title: "x" # {}: &a *a !!python \x1b[2J'
    rows = [["sku", "title", "what: is\nthis"], ["1", hostile, "a"], ["2", "Chair", "b"]]
    text = draft(tmp_path, put(tmp_path / "a b#c: d.csv", table(rows)))
    profile = yaml.safe_load(text)
    assert profile["store"] == "made"
    assert profile["catalog"]["fields"] == {"product_id": "sku", "title": "title"}
    assert "\x1b" not in text
    assert "\u2028" not in text


def test_hostile_columns_and_values_stay_inside_the_query(tmp_path: Path) -> None:
    status = "cancelled'); DROP TABLE x; --"
    rows = [["order id", "customer`id", "date", "sku", "order_status"]]
    rows += [[str(i), f"c{i}", "2024-05-01", f"s{i}", "cancelled" if i else status] for i in range(5)]
    text = draft(tmp_path, put(tmp_path / "orders.csv", table(rows)))
    query = yaml.safe_load(text)["events"]["query"]
    assert "`customer``id` AS user_id" in query
    assert "DROP" not in query


def test_what_was_not_sure_stands_first(tmp_path: Path) -> None:
    text = draft(tmp_path, *SHOPS["german_csv"](tmp_path).files)
    head = text.split("store: made")[0]
    for said in ("cp1252 is a guess", "storniert are left out", "currency"):
        assert said in head


def test_ids_that_hardly_join_are_shown(tmp_path: Path) -> None:
    articles = put(tmp_path / "articles.csv", table([["sku", "title"], *[[f"A{i}", f"Lamp {i}"] for i in range(9)]]))
    orders = [["customer_id", "sku", "ordered_at"], *[[f"c{i}", f"Q9{i}X", "2024-05-01"] for i in range(9)]]
    text = draft(tmp_path, articles, put(tmp_path / "orders.csv", table(orders)))
    assert (
        "only 0% of the events name a product of the catalogue: Q90X and Q91X in orders, A0 and A1 in articles" in text
    )


def fields_of(folder: Path, section: str, **files: list[list[object]]) -> dict[str, str]:
    """Return the drafted fields of a section, of files given as rows by name."""
    paths = [put(folder / f"{name}.csv", table(rows)) for name, rows in files.items()]
    fields: dict[str, str] = yaml.safe_load(draft(folder, *paths))[section]["fields"]
    return fields


def test_ten_digits_may_be_an_id_or_a_time(tmp_path: Path) -> None:
    sold: list[list[object]] = [["Sale Date", "Item Name", "Buyer", "Listing ID", "Order ID"]]
    sold += [
        [f"05/{1 + i % 28:02d}/24", f"Hat {i % 12}", f"b{i % 9}", 1_400_000_000 + i % 12, 3_100_000_000 + i]
        for i in range(60)
    ]
    fields = fields_of(tmp_path, "events", sold=sold)
    assert fields == {
        "user_id": "Buyer",
        "product_id": "Listing ID",
        "occurred_at": "Sale Date",
        "order_id": "Order ID",
    }


def test_times_of_nine_digits_are_known_by_their_name(tmp_path: Path) -> None:
    movies: list[list[object]] = [
        ["movieId", "title", "genres"],
        *[[i, f"Film {i} (1995)", "Drama"] for i in range(30)],
    ]
    ratings: list[list[object]] = [["userId", "movieId", "rating", "timestamp"]]
    ratings += [[i % 15, i % 30, 4.0, 964_982_703 + i] for i in range(90)]
    fields = fields_of(tmp_path, "events", movies=movies, ratings=ratings)
    assert fields == {"user_id": "userId", "product_id": "movieId", "occurred_at": "timestamp"}


def test_views_and_purchases_in_two_files_become_two_types(tmp_path: Path) -> None:
    views: list[list[object]] = [
        ["ts", "user", "sku"],
        *[[1_714_640_400 + i, f"u{i % 9}", f"S{i % 10}"] for i in range(60)],
    ]
    bought: list[list[object]] = [["ts", "user", "sku", "qty"], *[[*row, 2] for row in views[1:40]]]
    catalog: list[list[object]] = [["sku", "name"], *[[f"S{i}", f"Lamp {i}"] for i in range(10)]]
    paths = [
        put(tmp_path / f"{name}.csv", table(rows))
        for name, rows in (("views", views), ("purchases", bought), ("c", catalog))
    ]
    events = yaml.safe_load(draft(tmp_path, *paths))["events"]
    assert list(events["event_types"]) == ["view", "purchase"]
    assert "1 AS quantity" in events["query"]
    assert "`qty` AS quantity" in events["query"]
    assert "'purchase' AS event_type" in events["query"]


def test_files_of_one_shop_are_written_in_one_encoding(tmp_path: Path) -> None:
    products = put(tmp_path / "p.csv", "kod produktu,nazwa\nA1,Łyżka dębowa\nA2,Żółta świeca\n", "cp1250")
    orders = put(
        tmp_path / "o.csv",
        "nr zamówienia,data zamówienia,e-mail,kod produktu,ilość\n1,2024-05-01,a@b.pl,A1,1\n",
        "cp1250",
    )
    profile = yaml.safe_load(draft(tmp_path, products, orders))
    assert profile["catalog"]["source"]["encoding"] == profile["events"]["source"]["encoding"] == "cp1250"
