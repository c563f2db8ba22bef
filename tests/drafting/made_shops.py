"""Small made files in the shapes that shops' programs export, and what of them must be kept.

Each function writes its files into a folder and returns `MadeShop`. Ten products (`p` from 0 to 9) in forty or more
events, so that a rule that loses rows shows in the counts.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class MadeShop:
    """Files, and what the cleaning stages must keep of them.

    `n_products` and `n_events` are the rows kept; `product` and `event` are columns of one product and of the event of
    one order or user; `edits` replaces lines of the draft (old text to new), at most five.
    """

    files: list[Path]
    n_products: int
    n_events: int | None
    product: dict[str, Any]
    event: dict[str, Any] = field(default_factory=dict)
    edits: dict[str, str] = field(default_factory=dict)
    as_of: str = "2024-12-01"


def table(rows: Iterable[Sequence[Any]], separator: str = ",") -> str:
    """Return rows as CSV text."""
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator="\n").writerows(rows)
    return text.getvalue()


def put(path: Path, text: str, encoding: str = "utf-8") -> Path:
    """Write a file."""
    path.write_bytes(text.encode(encoding))
    return path


def clock(i: int, pattern: str = "2024-{month:02d}-{day:02d} {hour:02d}:{minute:02d}:00") -> str:
    """Return the time of the i-th event."""
    return pattern.format(month=5 + i % 6, day=1 + i % 28, hour=8 + i % 12, minute=i % 60)


def german_csv(folder: Path) -> MadeShop:
    """Semicolons, decimal commas, German names and dates, cp1252; a cancelled order; ids with leading zeros."""
    names = ["Käsehobel", "Fußmatte", "Müslischale", "Töpferscheibe", "Weißbierglas", "Gießkanne", "Bücherstütze"]
    names += ["Schlüsselbrett", "Brotkorb", "Teekanne"]
    articles = [["Artikel-Nr.", "Bezeichnung", "Langtext", "Warengruppe", "Hersteller", "VK-Preis", "Bestand"]]
    for p, name in enumerate(names):
        text = f"{name} für jeden Tag; spülmaschinenfest und schön verpackt"
        articles.append([f"{p:05d}", name, text, ["Küche", "Haus", "Garten"][p % 3], ["Römer", "Öko AG"][p % 2]])
        articles[-1] += [f"1.0{p}0,50" if p == 3 else f"{p + 4},90", str(p)]
    orders = [["Bestellnummer", "Kundennr.", "Bestelldatum", "Artikel-Nr.", "Menge", "Einzelpreis", "Bestellstatus"]]
    for i in range(60):
        state = "storniert" if i == 7 else "versendet"
        day = clock(i, "{day:02d}.{month:02d}.2024 {hour:02d}:{minute:02d}")
        orders.append(
            [f"B{i // 2:04d}", f"K{i % 9:03d}", day, f"{i % 10:05d}", str(1 + i % 3), f"{i % 10 + 4},90", state]
        )
    return MadeShop(
        [
            put(folder / "artikel.csv", table(articles, ";"), "cp1252"),
            put(folder / "bestellungen.csv", table(orders, ";"), "cp1252"),
        ],
        10,
        59,
        {"product_id": "00003", "title": "Töpferscheibe", "price": 1030.5, "brand": "Öko AG"},
        {"order_id": "B0001", "user_id": "K002", "product_id": "00002", "quantity": 3.0},
        {"timezone: UTC": "timezone: Europe/Berlin"},
    )


def french_tabs(folder: Path) -> MadeShop:
    """Tabs, cp1252, French names, dates as day/month/year, the order line file without a catalogue."""
    lines = [
        ["N° commande", "Code client", "Date commande", "Réf. produit", "Désignation", "Famille", "Qté", "Prix TTC"]
    ]
    names = ["Théière émaillée", "Gâteau à l’orange", "Crème brûlée", "Boîte à thé", "Pâtes fraîches"]
    for i in range(50):
        name = names[i % 5]
        day = clock(i, "{day:02d}/{month:02d}/2024")
        lines.append([f"C{1000 + i // 3}", f"{4400 + i % 7}", day, f"REF{i % 5}", name, ["Épicerie", "Maison"][i % 2]])
        lines[-1] += ["1", f"{i % 5 + 3},50 €"]
    return MadeShop(
        [put(folder / "ventes.txt", table(lines, "\t"), "cp1252")],
        5,
        50,
        {"product_id": "REF0", "title": "Théière émaillée", "price": 3.5, "currency": "EUR"},
        {"order_id": "C1000", "user_id": "4402", "product_id": "REF2"},
    )


def api_lines(folder: Path) -> MadeShop:
    """JSON lines as an API gives them: nested customers and brands, a list of lines in each order."""
    products, orders = [], []
    for p in range(10):
        products.append({"id": 9000 + p, "title": f"Lamp model {p}", "brand": {"name": f"Maker {p % 3}"}})
        products[-1] |= {
            "category": {"name": ["Desk", "Floor"][p % 2]},
            "price": {"amount": p + 0.5, "currency": "USD"},
        }
    for i in range(30):
        entries = [{"product_id": 9000 + (i + j) % 10, "quantity": 1 + j, "price": 2.5} for j in range(2)]
        orders.append({"id": 70000 + i, "created_at": clock(i).replace(" ", "T") + "Z"})
        orders[-1] |= {"customer": {"id": 500 + i % 8, "email": f"c{i % 8}@example.com"}, "line_items": entries}
    return MadeShop(
        [
            put(folder / "products.jsonl", "".join(json.dumps(each) + "\n" for each in products)),
            put(folder / "orders.jsonl", "".join(json.dumps(each) + "\n" for each in orders)),
        ],
        10,
        60,
        {"product_id": "9003", "title": "Lamp model 3", "brand": "Maker 0", "price": 3.5},
        {"order_id": "70001", "user_id": "501", "quantity": 2.0},
    )


def excel_ids(folder: Path) -> MadeShop:
    """Ids that a spreadsheet wrapped (="00123") in the catalogue, with lost zeros and floats in the orders."""
    products = [["Item Code", "Item Name", "Brand", "Unit Price"]]
    products += [[f'="{120 + p:05d}"', f"Garden tool {p}", "Spade & Co", f"${p + 1}.99"] for p in range(10)]
    orders = [["Order No", "Customer No", "Order Date", "Item Code", "Qty"]]
    orders += [
        [1 + i // 2, f"{30 + i % 6}.0", clock(i, "{month}/{day}/2024"), f"{120 + i % 10}.0", 1] for i in range(40)
    ]
    return MadeShop(
        [put(folder / "items.csv", table(products)), put(folder / "orders.csv", table(orders))],
        10,
        40,
        {"product_id": "123", "title": "Garden tool 3", "price": 4.99},
        {"order_id": "1", "user_id": "31"},
    )


def epoch_log(folder: Path) -> MadeShop:
    """An event log with epochs in milliseconds and event types, beside a catalogue; scrolling says nothing of taste."""
    start = 1_714_550_400_000
    items = [["itemid", "name", "category"]] + [[f"i{p}", f"Running shoe {p}", "shoes|running"] for p in range(10)]
    log = [["timestamp", "visitorid", "event", "itemid", "transactionid"]]
    for i in range(80):
        kind = ["view", "view", "addtocart", "transaction"][i % 4]
        log.append([start + i * 60_000, 100 + i % 9, kind, f"i{i % 10}", f"{i}" if kind == "transaction" else ""])
    log += [[start + i * 61_000, 100 + i, "scroll", f"i{i % 10}", ""] for i in range(5)]
    return MadeShop(
        [put(folder / "items.csv", table(items)), put(folder / "events.csv", table(log))],
        10,
        80,
        {"product_id": "i3", "title": "Running shoe 3", "category_path": ["shoes", "running"]},
        {"order_id": "3", "event_type": "purchase", "user_id": "103"},
    )


def orders_and_lines(folder: Path) -> MadeShop:
    """Orders and their lines in two files, a catalogue in a third, customers in a fourth that nothing needs."""
    products = [["product_id", "product_name", "category_name", "price"]]
    products += [[f"SKU-{p}", f"Wooden toy {p}", "Toys > Wood", f"{p}.25"] for p in range(10)]
    orders = [["id", "customer_id", "order_date", "status", "total"]]
    orders += [[i, f"cust{i % 7}", clock(i), "cancelled" if i == 4 else "complete", "9.99"] for i in range(1, 31)]
    lines = [["id", "order_id", "product_id", "quantity", "unit_price"]]
    lines += [[1000 + i, 1 + i % 30, f"SKU-{i % 10}", 1 + i % 2, "3.25"] for i in range(60)]
    customers = [["customer_id", "email", "city"]] + [[f"cust{i}", f"c{i}@example.com", "Porto"] for i in range(7)]
    return MadeShop(
        [
            put(folder / "products.csv", table(products)),
            put(folder / "orders.csv", table(orders)),
            put(folder / "order_lines.csv", table(lines)),
            put(folder / "customers.csv", table(customers)),
        ],
        10,
        58,
        {"product_id": "SKU-3", "title": "Wooden toy 3", "category_path": ["Toys", "Wood"], "price": 3.25},
        {"order_id": "2", "user_id": "cust2", "product_id": "SKU-1"},
    )


def no_header(folder: Path) -> MadeShop:
    """Two files without a header."""
    names = ["Red clay pot", "Blue steel mug", "Green glass bowl", "Small oak tray", "Large pine box"]
    products = [[f"A{p:03d}", f"{names[p % 5]} no {p}", ["Pots", "Mugs"][p % 2], f"{p}.75"] for p in range(10)]
    orders = [[f"{100 + i % 9}", f"A{i % 10:03d}", clock(i), 1 + i % 2] for i in range(60)]
    return MadeShop(
        [put(folder / "stock.csv", table(products)), put(folder / "sold.csv", table(orders))],
        10,
        60,
        {"product_id": "A003", "title": "Small oak tray no 3", "price": 3.75},
        {"product_id": "A003"},
    )


def variants(folder: Path) -> MadeShop:
    """Products whose variants stand below them with blank titles, as Shopify writes them; orders with blanks too."""
    header = ["Handle", "Title", "Body (HTML)", "Vendor", "Type", "Option1 Name", "Option1 Value", "Variant SKU"]
    header += ["Variant Inventory Qty", "Variant Price", "Image Src", "Status"]
    rows: list[list[Any]] = [header]
    for p in range(5):
        first = [f"shirt-{p}", f"Linen shirt {p}", f"<p>Airy shirt {p}</p>", "Weaver", "Shirts", "Size"]
        rows.append([*first, "S", f"SH{p}-S", 3, "29.90", f"https://img.example/{p}.jpg", "active"])
        rows.append([f"shirt-{p}", "", "", "", "", "", "M", f"SH{p}-M", 2, "31.90", "", ""])
        rows.append([f"shirt-{p}", *[""] * 9, f"https://img.example/{p}b.jpg", ""])
    head = ["Name", "Email", "Financial Status", "Paid at", "Currency", "Subtotal", "Total", "Created at"]
    head += ["Lineitem quantity", "Lineitem name", "Lineitem price", "Lineitem sku", "Notes", "Id"]
    orders: list[list[Any]] = [head]
    for i in range(20):
        when = f"{clock(i)} +0200"
        state = "voided" if i == 3 else "paid"
        first = [f"#{1001 + i}", f"buyer{i % 6}@example.com", state, when, "EUR", "60.00", "66.00", when]
        orders.append([*first, 1, f"Linen shirt {i % 5} - S", "29.90", f"SH{i % 5}-S", "", 7410000000 + i])
        blank = [f"#{1001 + i}", f"buyer{i % 6}@example.com", *[""] * 5, when, 2]
        orders.append([*blank, f"Linen shirt {(i + 1) % 5} - M", "31.90", f"SH{(i + 1) % 5}-M", "", ""])
    return MadeShop(
        [put(folder / "products_export.csv", table(rows)), put(folder / "orders_export.csv", table(orders))],
        10,
        38,
        {"product_id": "SH2-M", "title": "Linen shirt 2", "brand": "Weaver", "price": 31.9, "currency": "EUR"},
        {"order_id": "#1002", "user_id": "buyer1@example.com"},
    )


def no_titles(folder: Path) -> MadeShop:
    """One event log with brand and category codes, and no title anywhere."""
    log: list[list[Any]] = [["time", "action", "sku", "category", "maker", "cost", "visitor_id"]]
    for i in range(60):
        kind = ["view", "cart", "buy"][i % 3]
        code = ["electronics.smartphone", "appliances.kitchen.kettle", ""][i % 10 % 3]
        log.append([f"{clock(i)} UTC", kind, 1_000_000 + i % 10, code, ["acme", "zeta"][i % 2]])
        log[-1] += [f"{10 + i % 10}.49", 512_000_000 + i % 12]
    return MadeShop(
        [put(folder / "2019-Nov.csv", table(log))],
        10,
        60,
        {"product_id": "1000003"},
        {"event_type": "view", "user_id": "512000000"},
    )


def languages(folder: Path) -> MadeShop:
    """One row per product and language, Spanish names, two monthly order files."""
    products = [["id_producto", "idioma", "nombre", "descripcion", "categoria", "precio"]]
    for p in range(10):
        products.append(
            [f"P-{p}", "es", f"Botella térmica {p}", "Mantiene el calor todo el día", "Cocina", f"{p + 5},00"]
        )
        products.append([f"P-{p}", "en", f"Thermal bottle {p}", "Keeps warm all day", "Kitchen", f"{p + 5},00"])
    paths = [put(folder / "productos.csv", table(products, ";"))]
    for month in (5, 6):
        orders = [["num_pedido", "id_cliente", "fecha_pedido", "hora", "id_producto", "cantidad"]]
        for i in range(30):
            orders.append(
                [
                    f"{month}{i:03d}",
                    f"{i % 8}",
                    f"{1 + i % 28:02d}/{month:02d}/2024",
                    f"{8 + i % 9}:15",
                    f"p-{i % 10}",
                    1,
                ]
            )
        paths.append(put(folder / f"pedidos_2024-{month:02d}.csv", table(orders, ";")))
    return MadeShop(
        paths,
        10,
        60,
        {"product_id": "P-3", "title": "Botella térmica 3", "price": 8.0},
        {"order_id": "5001", "product_id": "P-1"},
    )


SHOPS: dict[str, Callable[[Path], MadeShop]] = {
    each.__name__: each
    for each in (
        german_csv,
        french_tabs,
        api_lines,
        excel_ids,
        epoch_log,
        orders_and_lines,
        no_header,
        variants,
        no_titles,
        languages,
    )
}
