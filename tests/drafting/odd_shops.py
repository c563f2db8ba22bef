"""More made shops, of shapes that are seldom: platforms' exports, public data sets, and what breaks a draft."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from drafting.made_shops import MadeShop, clock, put, table


def parts_of_lines(folder: Path) -> MadeShop:
    """Magento: orders by entity_id, a product with options as two lines, several categories."""
    head = ["sku", "product_type", "categories", "name", "price", "updated_at", "is_in_stock"]
    products = [head]
    for p in range(10):
        categories = (
            f"Default Category/{'Men' if p % 2 else 'Women'},Default Category/{'Men' if p % 2 else 'Women'}/Tops"
        )
        products.append(
            [f"MH{p:02d}", "simple", categories, f"Cotton hoodie {p}", f"{p + 20}.0000", "6/13/23, 3:05 PM", "1"]
        )
    orders = [["entity_id", "status", "customer_id", "increment_id", "created_at"]]
    lines = [["item_id", "order_id", "parent_item_id", "sku", "name", "qty_ordered", "price"]]
    for i in range(1, 41):
        orders.append([i, "canceled" if i == 4 else "complete", f"{100 + i % 7}", f"{100000000 + i}", clock(i)])
        sku = f"MH{i % 10:02d}"
        lines.append([2 * i, i, r"\N", sku, "Cotton hoodie", "1.0000", "20.0000"])
        lines.append([2 * i + 1, i, 2 * i, sku, "Cotton hoodie M", "1.0000", "0.0000"])
    return MadeShop(
        [
            put(folder / "export_catalog_product.csv", table(products)),
            put(folder / "sales_order.tsv", table(orders, "\t")),
            put(folder / "sales_order_item.tsv", table(lines, "\t")),
        ],
        10,
        39,
        {
            "product_id": "MH03",
            "category_path": ["Default Category", "Men", "Tops"],
            "updated_at": datetime(2023, 6, 13, 15, 5, tzinfo=UTC),
        },
        {"order_id": "2", "user_id": "102", "product_id": "MH02"},
    )


def quoted_table(rows: Iterable[Sequence[Any]]) -> str:
    """Return rows as CSV with semicolons, every field in quotes."""
    text = io.StringIO()
    csv.writer(text, delimiter=";", quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    return text.getvalue()


def quoted_semicolons(folder: Path) -> MadeShop:
    """PrestaShop: every field in quotes, prices with commas before the semicolon; zeros lost in one file only."""
    names = ["Thé vert", "Café moulu", "Miel d'acacia", "Savon à l'huile", "Torchon brodé"]
    products = [["ID", "Nom", "Référence", "Catégorie", "Prix (TTC)", "Quantité", "Résumé"]]
    for p in range(10):
        text = f"<p>{names[p % 5]}, de qualité ; idéal, l&rsquo;été</p>"
        products.append([p + 1, f"{names[p % 5]} {p}", f"{500 + p:07d}", "Épicerie", f"{p + 2},45 €", p, text])
    orders = [["Référence commande", "Date", "ID client", "État", "Réf. produit", "Quantité", "Prix unitaire"]]
    for i in range(40):
        state = "Annulée par le client" if i == 5 else "Livré"
        orders.append(
            [f"KXQ{i}", clock(i, "{day:02d}/{month:02d}/2024 10:00:00"), 3 + i % 7, state, 500 + i % 10, 1, "2,45"]
        )
    return MadeShop(
        [
            put(folder / "produits.csv", quoted_table(products)),
            put(folder / "commandes.csv", quoted_table(orders)),
        ],
        10,
        39,
        {"product_id": "503", "title": "Savon à l'huile 3", "price": 5.45, "currency": "EUR", "in_stock": True},
        {"order_id": "KXQ1", "user_id": "4", "product_id": "501"},
    )


def fees_and_guests(folder: Path) -> MadeShop:
    """Lines of postage without a product; customer 0 for guests; times as Excel shows them; 2,00 pieces."""
    products = [["Artikelnummer", "Artikelname", "Kategorie Ebene 1", "Kategorie Ebene 2", "Brutto-VK", "Lagerbestand"]]
    products += [[f"SÄ-{p}", f"Stichsäge {p}", "Werkzeug", "Sägen", f"1.{p}00,50", "3,00"] for p in range(10)]
    orders = [["Auftragsnummer", "Auftragsdatum", "Kundennummer", "Artikelnummer", "Bezeichnung", "Menge"]]
    for i in range(60):
        user = "0" if i % 2 == 0 else str(900 + i % 15)
        when = clock(i, "{month}/{day}/24 {hour}:15 AM").replace(" 12:", " 9:")
        when = when.replace("AM", "PM") if int(when.split()[1].split(":")[0]) > 12 else when
        hour = int(when.split()[1].split(":")[0])
        when = when.replace(f" {hour}:", f" {hour % 12 or 12}:")
        orders.append([f"A{i}", when, user, f"SÄ-{i % 10}", "Stichsäge", "2,00"])
        orders.append([f"A{i}", when, user, "", "Versand", "1,00"])
    return MadeShop(
        [
            put(folder / "artikel.csv", "\ufeff" + table(products, ";")),
            put(folder / "auftraege.csv", "\ufeff" + table(orders, ";")),
        ],
        10,
        60,
        {"product_id": "SÄ-3", "price": 1300.5, "category_path": ["Werkzeug", "Sägen"], "in_stock": True},
        {"order_id": "A2", "user_id": None, "quantity": 2.0},
    )


def till(folder: Path) -> MadeShop:
    """A till: date and time in two columns, payments and refunds with negative quantities."""
    head = [
        "Date",
        "Time",
        "Category",
        "Item",
        "Qty",
        "SKU",
        "Gross Sales",
        "Transaction ID",
        "Event Type",
        "Customer ID",
    ]
    rows: list[list[object]] = [head]
    for i in range(60):
        day = f"{1 + i % 6}/{1 + i % 28}/24"
        rows.append(
            [day, "5:07 PM", "Tea", f"Matcha {i % 10}", "1.0", f"{i % 10:04d}", "$1,200.00", f"T{i}", "Payment"]
        )
        rows[-1].append(f"C{i % 9}")
    rows.append(["6/29/24", "11:00 AM", "Tea", "Matcha 7", "-1.0", "0007", "-$1,200.00", "R1", "Refund", "C7"])
    return MadeShop(
        [put(folder / "items.csv", table(rows))],
        10,
        59,
        {"product_id": "0003", "title": "Matcha 3"},
        {"order_id": "T1", "occurred_at": datetime(2024, 2, 2, 17, 7, tzinfo=UTC), "event_type": "purchase"},
    )


def behaviour_codes(folder: Path) -> MadeShop:
    """A public log: types as figures, times to the hour, no titles."""
    rows = [["user_id", "item_id", "behavior_type", "item_category", "time"]]
    for i in range(80):
        kind = [1, 1, 1, 2, 1, 1, 3, 4][i % 8]
        rows.append([10001 + i % 9, 28525 + i % 10, kind, 4003, clock(i, "2024-{month:02d}-{day:02d} {hour:02d}")])
    return MadeShop(
        [put(folder / "log.csv", table(rows))],
        10,
        80,
        {"product_id": "28528"},
        {"event_type": "purchase", "user_id": "10008", "occurred_at": datetime(2024, 6, 8, 15, tzinfo=UTC)},
        {
            "cart: {weight: 0.3, half_life_days: 30, aliases: ['2']}": "cart: {weight: 0.3, aliases: ['3']}",
            "wishlist: {weight: 0.2, half_life_days: 30, aliases: ['3']}": "wishlist: {weight: 0.2, aliases: ['2']}",
        },
    )


def double_colons(folder: Path) -> MadeShop:
    """Ratings between double colons, without headers; users' figures are among the films'."""
    films = "".join(f"{p + 1}::Café film {p}, The (19{50 + p})::Comedy|Drama\n" for p in range(10))
    ratings = [f"{1 + i % 7}::{1 + i % 10}::{[5, 4, 4, 2][i % 4]}::{978300000 + 86400 * i}\n" for i in range(80)]
    return MadeShop(
        [put(folder / "movies.dat", films, "latin-1"), put(folder / "ratings.dat", "".join(ratings))],
        10,
        60,
        {"product_id": "4", "title": "Café film 3, The (1953)", "category_path": ["Comedy", "Drama"]},
        {"user_id": "2", "product_id": "2"},
        as_of="2001-06-01",
    )


def orders_in_xml(folder: Path) -> MadeShop:
    """Orders as XML with attributes and items inside; products as a dump of Elasticsearch, packed, prices in reais."""
    with gzip.open(folder / "produtos.ndjson.gz", "wt", encoding="utf-8") as file:
        for p in range(10):
            source = {"sku": f"MLB{p}", "titulo": f"Fone de ouvido {p}", "marca": {"nome": "Mondial"}}
            source |= {
                "categorias": ["Casa", ["Áudio", "Som"][p % 2]],
                "preco": f"R$ 1.{p}34,56",
                "tags": ["novo"] * (p % 2),
            }
            file.write(json.dumps({"_index": "p_v3", "_type": "_doc", "_id": f"MLB{p}", "_source": source}) + "\n")
    orders = []
    for i in range(40):
        items = "".join(
            f"<item><sku>MLB{(i + j) % 10}</sku><nome>Fone</nome><quantidade>{1 + j}</quantidade></item>"
            for j in range(1 + i % 2)
        )
        who = f"<cliente><id>u-{i % 7}</id><nome>Fulano</nome></cliente><data>{clock(i).replace(' ', 'T')}-03:00</data>"
        state = "cancelado" if i == 4 else "entregue"
        orders.append(f'<pedido numero="{700 + i}">{who}<situacao>{state}</situacao><itens>{items}</itens></pedido>')
    return MadeShop(
        [folder / "produtos.ndjson.gz", put(folder / "pedidos.xml", f"<pedidos>{''.join(orders)}</pedidos>")],
        10,
        59,
        {"product_id": "MLB3", "title": "Fone de ouvido 3", "price": 1334.56, "category_path": ["Casa", "Som"]},
        {"order_id": "701", "user_id": "u-1", "product_id": "MLB2", "quantity": 2.0},
    )


def days_in_folders(folder: Path) -> MadeShop:
    """Parquet in folders that alone name the day, all files of one name; prices in lakh in a JSON array."""
    products = [
        {"productId": 70 + p, "productName": f"रेशमी साड़ी {p}", "mrp": "₹2,00,000.00", "sellingPrice": f"₹1,23,45{p}.50"}
        for p in range(10)
    ]
    put(folder / "catalog.json", json.dumps(products, ensure_ascii=False, indent=1))
    kinds = ["PRODUCT_VIEW", "ADDED_TO_CART", "ORDER_PLACED"]
    for day in range(20):
        when = datetime(2024, 5, 1, 9, tzinfo=UTC) + timedelta(days=day)
        rows = [{"uid": 1 + i, "pid": 70 + (day + i) % 10, "etype": kinds[i]} for i in range(3)]
        of_day = folder / "log" / f"day={when:%Y-%m-%d}"
        of_day.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows), of_day / "part-0.parquet")
    return MadeShop(
        [folder / "catalog.json", *sorted(folder.glob("log/day=*/part-0.parquet"))],
        10,
        60,
        {"product_id": "73", "price": 123453.5, "currency": "INR", "title": "रेशमी साड़ी 3"},
        {"user_id": "3", "event_type": "purchase", "occurred_at": datetime(2024, 5, 1, tzinfo=UTC)},
    )


def a_column_more(folder: Path) -> MadeShop:
    """Polish files in cp1250: an id that nothing names, and a column in the middle from the second month on."""
    products = [["Klucz", "Nazwa", "Kategoria", "Cena brutto", "Stan magazynowy"]]
    products += [[f"GAR/{p}", f"Garnek żółty {p}", "Dom > Kuchnia", f"1 23{p},50 zł", f"{p} szt."] for p in range(10)]
    files = [put(folder / "towary.csv", table(products, ";"), "cp1250")]
    for month in (5, 6, 7):
        rows = [["Nr zamówienia", "Data", "Klient", "Klucz", "Ilość"]]
        rows += [
            [f"{month}/{i}", f"2024-{month:02d}-{1 + i:02d} 10:00", f"Żółć {i % 7}", f"GAR/{i % 10}", 1]
            for i in range(20)
        ]
        rows = rows if month == 5 else [[*row[:3], "Kanał" if row is rows[0] else "Allegro", *row[3:]] for row in rows]
        files.append(put(folder / f"zamowienia_{month:02d}.csv", table(rows, ";"), "cp1250"))
    return MadeShop(
        files,
        10,
        60,
        {"product_id": "GAR/3", "title": "Garnek żółty 3", "price": 1233.5, "in_stock": True},
        {"order_id": "7/1", "user_id": "Żółć 1", "product_id": "GAR/1", "quantity": 1.0},
    )


def japanese_mall(folder: Path) -> MadeShop:
    """Rakuten: cp932 with letters that only Windows has, prices in 円, orders cancelled for good."""
    products = [["商品管理番号", "商品名", "販売価格", "全商品ディレクトリ", "在庫数", "商品説明文"]]
    products += [
        [f"item{p}", f"【送料無料】①羊羹～{p}（大）", f"1,98{p}円", "食品>菓子", p, "毎日の暮らしに。" * 300]
        for p in range(10)
    ]
    orders = [["受注番号", "注文日時", "ステータス", "注文者メールアドレス", "商品管理番号", "個数"]]
    for i in range(40):
        state = "キャンセル確定" if i == 5 else "処理済"
        orders.append([f"235-{i}", clock(i).replace("-", "/"), state, f"u{i % 7}@mail.example.jp", f"item{i % 10}", 1])
    return MadeShop(
        [put(folder / "item.csv", table(products), "cp932"), put(folder / "jyutyu.csv", table(orders), "cp932")],
        10,
        39,
        {
            "product_id": "item3",
            "title": "【送料無料】①羊羹～3（大）",
            "price": 1983.0,
            "category_path": ["食品", "菓子"],
        },
        {"order_id": "235-1", "user_id": "u1@mail.example.jp"},
    )


def no_dates(folder: Path) -> MadeShop:
    """Orders of which only the sequence is known: one expression must be written."""
    products = [["product_id", "product_name", "aisle_id"]] + [[p, f"Sea salt {p}", 7] for p in range(10)]
    orders = [["order_id", "user_id", "order_number", "order_dow", "days_since_prior_order"]]
    orders += [[i, i % 7, 1 + i // 7, i % 7, ""] for i in range(40)]
    lines = [["order_id", "product_id", "add_to_cart_order"]] + [
        [i, (i + j) % 10, j] for i in range(40) for j in (1, 2)
    ]
    return MadeShop(
        [
            put(folder / "products.csv", table(products)),
            put(folder / "orders.csv", table(orders)),
            put(folder / "order_products.csv", table(lines)),
        ],
        10,
        80,
        {"product_id": "3", "title": "Sea salt 3"},
        {"order_id": "8", "user_id": "1", "occurred_at": datetime(2024, 1, 3, tzinfo=UTC)},
        {"CAST(NULL AS TIMESTAMP)": "date_add(DATE '2024-01-01', CAST(order_number AS INT))"},
    )


def tracked_calls(folder: Path) -> MadeShop:
    """Calls of a tracker: a product that was viewed, or the list of an order's; people known only by their browser."""
    products = [{"id": f"p{p}", "title": f"Lamp {p}"} for p in range(10)]
    put(folder / "products.json", json.dumps({"page": 1, "products": products}, indent=1))
    calls: list[dict[str, Any]] = []
    for i in range(60):
        user = {"anonymousId": f"a{i % 9}", "userId": None if i % 3 else f"u{i % 9}"}
        calls.append({**user, "timestamp": clock(i).replace(" ", "T") + "Z", "event": "Product Viewed"})
        calls[-1]["properties"] = {"product_id": f"p{i % 10}"}
        if i % 3 == 0:
            ordered = [{"product_id": f"p{(i + j) % 10}", "quantity": 1 + j} for j in range(2)]
            calls[-1] |= {"event": "Order Completed", "properties": {"order_id": f"o{i}", "products": ordered}}
    return MadeShop(
        [folder / "products.json", put(folder / "calls.jsonl", "".join(json.dumps(call) + "\n" for call in calls))],
        10,
        80,
        {"product_id": "p3", "title": "Lamp 3"},
        {"user_id": "a1", "product_id": "p1", "event_type": "view"},
    )


def receipts(folder: Path) -> MadeShop:
    """Receipts without customers; a Dutch catalogue whose ids have zeros, one of them nothing else."""
    products = [["artikelnummer", "omschrijving", "prijs"], *[[f"{p:06d}", f"Stoel {p}", "12,50"] for p in range(10)]]
    sold = [["Bonnr", "Datum", "Artikelnr", "Aantal"]]
    sold += [[i // 3, clock(i, "{day}-{month}-2024"), i % 10, 1] for i in range(60)]
    return MadeShop(
        [put(folder / "producten.csv", table(products, ";")), put(folder / "verkopen.csv", table(sold, ";"))],
        10,
        60,
        {"product_id": "0", "title": "Stoel 0", "price": 12.5},
        {"product_id": "9", "user_id": None},
    )


ODD_SHOPS: dict[str, Callable[[Path], MadeShop]] = {
    each.__name__: each
    for each in (
        parts_of_lines,
        quoted_semicolons,
        fees_and_guests,
        till,
        behaviour_codes,
        double_colons,
        orders_in_xml,
        days_in_folders,
        a_column_more,
        japanese_mall,
        no_dates,
        tracked_calls,
        receipts,
    )
}
