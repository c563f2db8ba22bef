"""Small made files with the columns of platforms' real exports: what each of include/stores/examples is tested on."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SHOPIFY_PRODUCTS = """
Handle,Title,Body (HTML),Vendor,Product Category,Type,Tags,Published,Option1 Name,Option1 Value,Option1 Linked To,
Option2 Name,Option2 Value,Option2 Linked To,Option3 Name,Option3 Value,Option3 Linked To,Variant SKU,Variant Grams,
Variant Inventory Tracker,Variant Inventory Qty,Variant Inventory Policy,Variant Fulfillment Service,Variant Price,
Variant Compare At Price,Variant Requires Shipping,Variant Taxable,Variant Barcode,Image Src,Image Position,
Image Alt Text,Gift Card,SEO Title,SEO Description,Variant Image,Variant Weight Unit,Variant Tax Code,Cost per item,
Status
"""
SHOPIFY_ORDERS = """
Name,Email,Financial Status,Paid at,Fulfillment Status,Fulfilled at,Accepts Marketing,Currency,Subtotal,Shipping,
Taxes,Total,Discount Code,Discount Amount,Shipping Method,Created at,Lineitem quantity,Lineitem name,Lineitem price,
Lineitem compare at price,Lineitem sku,Lineitem requires shipping,Lineitem taxable,Lineitem fulfillment status,
Billing Name,Billing Street,Billing Address1,Billing Address2,Billing Company,Billing City,Billing Zip,
Billing Province,Billing Country,Billing Phone,Shipping Name,Shipping Street,Shipping Address1,Shipping Address2,
Shipping Company,Shipping City,Shipping Zip,Shipping Province,Shipping Country,Shipping Phone,Notes,Note Attributes,
Cancelled at,Payment Method,Payment Reference,Refunded Amount,Vendor,Outstanding Balance,Employee,Location,
Device ID,Id,Tags,Risk Level,Source,Lineitem discount,Tax 1 Name,Tax 1 Value,Tax 2 Name,Tax 2 Value,Tax 3 Name,
Tax 3 Value,Tax 4 Name,Tax 4 Value,Tax 5 Name,Tax 5 Value,Phone,Receipt Number,Duties,Billing Province Name,
Shipping Province Name,Payment ID,Payment Terms Name,Next Payment Due At,Payment References
"""
WOOCOMMERCE_PRODUCTS = """
ID,Type,SKU,Name,Published,Is featured?,Visibility in catalog,Short description,Description,Date sale price starts,
Date sale price ends,Tax status,Tax class,In stock?,Stock,Low stock amount,Backorders allowed?,Sold individually?,
Weight (kg),Length (cm),Width (cm),Height (cm),Allow customer reviews?,Purchase note,Sale price,Regular price,
Categories,Tags,Shipping class,Images,Download limit,Download expiry days,Parent,Grouped products,Upsells,
Cross-sells,External URL,Button text,Position,Attribute 1 name,Attribute 1 value(s),Attribute 1 visible,
Attribute 1 global
"""
WOOCOMMERCE_LINES = """
order_item_id,order_id,product_id,variation_id,customer_id,date_created,product_qty,product_net_revenue,
product_gross_revenue,coupon_amount,tax_amount,shipping_amount,shipping_tax_amount
"""
WOOCOMMERCE_ORDERS = """
order_id,parent_id,date_created,date_created_gmt,date_paid,date_completed,num_items_sold,total_sales,tax_total,
shipping_total,net_total,returning_customer,status,customer_id
"""


def write(path: Path, columns: str, rows: Iterable[dict[str, Any]], separator: str = ",") -> None:
    """Write rows by column name; what a row doesn't name is blank."""
    names = columns.replace("\n", "").split(",")
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", delimiter=separator, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8")


def listed(columns: str, *rows: Sequence[Any]) -> list[dict[str, Any]]:
    """Return rows as mappings."""
    return [dict(zip(columns.split(","), row, strict=True)) for row in rows]


def shopify(data: Path) -> None:
    """A shirt in two sizes with a second picture, a mug, a draft; an order of two lines, one voided."""
    products: list[dict[str, Any]] = [
        {
            "Handle": "linen-shirt",
            "Title": "Linen shirt",
            "Body (HTML)": "<p>Airy &amp; light.</p>",
            "Vendor": "Weaver",
            "Type": "Shirts",
            "Option1 Name": "Size",
            "Option1 Value": "S",
            "Variant SKU": "LS-S",
            "Variant Inventory Qty": 3,
            "Variant Price": "39.90",
            "Image Src": "https://cdn.example/1.jpg",
            "Status": "active",
        },
        {"Handle": "linen-shirt", "Option1 Value": "M", "Variant SKU": "LS-M", "Variant Inventory Qty": 0},
        {"Handle": "linen-shirt", "Image Src": "https://cdn.example/2.jpg", "Image Position": 2},
        {"Handle": "mug", "Title": 'Mug, "big"', "Vendor": "Potter", "Variant SKU": "MUG", "Variant Price": "12.00"},
        {"Handle": "secret", "Title": "Not yet", "Variant SKU": "NEW", "Variant Price": "1.00", "Status": "draft"},
    ]
    products[1]["Variant Price"] = "41.90"
    products[3]["Status"] = "active"
    write(data / "shopify/products_export_1.csv", SHOPIFY_PRODUCTS, products)
    when = "2024-05-02 10:23:45 +0200"
    orders: list[dict[str, Any]] = [
        {"Name": "#1001", "Email": "Ann@example.com", "Financial Status": "paid", "Created at": when, "Total": "91.80"},
        {"Name": "#1001", "Email": "Ann@example.com", "Created at": when},
        {"Name": "#1002", "Email": "bob@example.com", "Financial Status": "voided", "Created at": when},
        {"Name": "#1002", "Email": "bob@example.com", "Created at": when},
        {"Name": "#1003", "Email": "bob@example.com", "Financial Status": "paid", "Created at": when},
    ]
    lines = [("LS-S", 2, "39.90"), ("MUG", 1, "12.00"), ("MUG", 1, "12.00"), ("LS-M", 1, "41.90"), ("LS-M", 1, "41.90")]
    for order, (sku, quantity, price) in zip(orders, lines, strict=True):
        order |= {"Lineitem sku": sku, "Lineitem quantity": quantity, "Lineitem price": price, "Billing Zip": "'75008"}
    write(data / "shopify/orders_export.csv", SHOPIFY_ORDERS, orders)


def woocommerce(data: Path) -> None:
    """A hoodie in two colours, a simple cap; three lines of completed orders, one of a failed one, one of a guest."""
    products = listed(
        "ID,Type,SKU,Name,Description,In stock?,Sale price,Regular price,Categories,Parent",
        (10, "variable", "hoodie", "Hoodie", "Warm.\nSoft.", 1, "", "", "Clothing > Hoodies", ""),
        (11, "variation", "hoodie-red", "Hoodie - Red", "", 1, "42", "45", "", "hoodie"),
        (12, "variation", "", "Hoodie - Blue", "", 0, "", "45", "", "id:10"),
        (13, "simple", "cap", "Cap", "Keeps the sun away", 1, "", "16.5", "Clothing > Caps", ""),
    )
    write(data / "woocommerce/wc-product-export-1-6-2024.csv", WOOCOMMERCE_PRODUCTS, products)
    lines = listed(
        "order_item_id,order_id,product_id,variation_id,customer_id,date_created,product_qty",
        (1, 100, 10, 11, 7, "2024-05-02 10:00:00", 1),
        (2, 100, 13, 0, 7, "2024-05-02 10:00:00", 2),
        (3, 101, 10, 12, 8, "2024-05-03 11:00:00", 1),
        (4, 102, 13, 0, 8, "2024-05-04 12:00:00", 1),
        (5, 103, 13, 0, 0, "2024-05-05 12:00:00", 1),
    )
    write(data / "woocommerce/wp_wc_order_product_lookup.csv", WOOCOMMERCE_LINES, lines)
    orders = listed(
        "order_id,date_created,status,customer_id",
        (100, "2024-05-02 10:00:00", "wc-completed", 7),
        (101, "2024-05-03 11:00:00", "wc-processing", 8),
        (102, "2024-05-04 12:00:00", "wc-failed", 8),
        (103, "2024-05-05 12:00:00", "wc-completed", 0),
    )
    write(data / "woocommerce/wp_wc_order_stats.csv", WOOCOMMERCE_ORDERS, orders)


def google_merchant_xml(data: Path) -> None:
    """Two items, one with a sale price and entities, one without a product type."""
    items = """
    <item>
      <g:id>K-1</g:id>
      <g:title>Kettle &amp; base</g:title>
      <g:description><![CDATA[<p>Boils <b>fast</b></p>]]></g:description>
      <g:link>https://shop.example/k1</g:link>
      <g:image_link>https://shop.example/k1.jpg</g:image_link>
      <g:availability>in_stock</g:availability>
      <g:price>29.90 EUR</g:price>
      <g:sale_price>24.90 EUR</g:sale_price>
      <g:brand>Boilwell</g:brand>
      <g:condition>new</g:condition>
      <g:google_product_category>Home &amp; Garden &gt; Kitchen</g:google_product_category>
      <g:product_type>Kitchen &gt; Kettles</g:product_type>
      <g:shipping><g:country>DE</g:country><g:price>4.90 EUR</g:price></g:shipping>
    </item>
    <item>
      <g:id>K-2</g:id>
      <g:title>Teapot</g:title>
      <g:description>Holds a litre</g:description>
      <g:availability>out_of_stock</g:availability>
      <g:price>19.00 EUR</g:price>
      <g:brand>Boilwell</g:brand>
      <g:google_product_category>Home &amp; Garden &gt; Kitchen</g:google_product_category>
    </item>"""
    head = "<title>Feed</title><link>https://shop.example</link><description>All products</description>"
    rss = (
        f'<rss version="2.0" xmlns:g="http://base.google.com/ns/1.0">\n  <channel>{head}{items}\n  </channel>\n</rss>\n'
    )
    path = data / "google_merchant/feed.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'<?xml version="1.0" encoding="UTF-8"?>\n{rss}', encoding="utf-8")


def google_merchant_tsv(data: Path) -> None:
    """The same two items."""
    columns = (
        "id,title,description,link,image_link,availability,price,sale_price,brand,google_product_category,product_type"
    )
    kitchen = "Home & Garden > Kitchen"
    rows = listed(
        columns,
        (
            "K-1",
            "Kettle & base",
            "Boils fast",
            "https://s.example/1",
            "",
            "in_stock",
            "29.90 EUR",
            "24.90 EUR",
            "Boilwell",
            kitchen,
            "Kitchen > Kettles",
        ),
        (
            "K-2",
            "Teapot",
            "Holds a litre",
            "https://s.example/2",
            "",
            "out_of_stock",
            "19.00 EUR",
            "",
            "Boilwell",
            kitchen,
            "",
        ),
    )
    write(data / "google_merchant/feed.txt", columns, rows, "\t")


def ga4(data: Path) -> None:
    """A view and a purchase of two items, a page view without items; Parquet with the export's nested types."""
    item = pa.struct([(name, pa.string()) for name in ("item_id", "item_name", "item_brand", "item_variant")])
    item = pa.struct([*item, *[pa.field(f"item_category{n}", pa.string()) for n in ("", 2, 3, 4, 5)]])
    item = pa.struct([*item, pa.field("price", pa.float64()), pa.field("quantity", pa.int64())])
    schema = pa.schema(
        [
            ("event_date", pa.string()),
            ("event_timestamp", pa.int64()),
            ("event_name", pa.string()),
            ("user_id", pa.string()),
            ("user_pseudo_id", pa.string()),
            ("ecommerce", pa.struct([("transaction_id", pa.string()), ("purchase_revenue", pa.float64())])),
            ("items", pa.list_(item)),
        ]
    )

    def sold(item_id: str, quantity: int | None) -> dict[str, Any]:
        named = {
            "item_id": item_id,
            "item_name": f"Google Mug {item_id}",
            "item_brand": "(not set)",
            "item_category": "Home",
        }
        return {**named, "item_category2": "Drinkware", "price": 12.5, "quantity": quantity}

    moment = 1_714_640_400_000_000
    events = [
        ("view_item", None, "1001.55", None, [sold("GGOE1", None)]),
        ("page_view", None, "1001.55", None, []),
        ("purchase", "u7", "1001.55", "T1", [sold("GGOE1", 2), sold("GGOE2", 1)]),
    ]
    rows = [
        {
            "event_date": "20240502",
            "event_timestamp": moment + 1_000_000 * i,
            "event_name": name,
            "user_id": user,
            "user_pseudo_id": browser,
            "ecommerce": {"transaction_id": order or "(not set)", "purchase_revenue": None},
            "items": items,
        }
        for i, (name, user, browser, order, items) in enumerate(events)
    ]
    (data / "ga4").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), data / "ga4/events-000000000000.parquet")
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (data / "ga4/events.jsonl").write_text(lines, encoding="utf-8")


def rees46(data: Path) -> None:
    """Two products, one without brand and category."""
    columns = "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session"
    phone = (1003461, 2053013555631882655, "electronics.smartphone", "xiaomi", 489.07, 520088904, "a")
    rows = listed(
        columns,
        ("2019-11-01 00:00:00 UTC", "view", *phone),
        ("2019-11-01 00:01:00 UTC", "cart", *phone),
        ("2019-11-01 00:02:00 UTC", "purchase", *phone),
        ("2019-11-01 00:03:00 UTC", "view", 26500543, 2053013563651392361, "", "", 286.86, 518957665, "b"),
    )
    write(data / "rees46/2019-Nov.csv", columns, rows)


def retailrocket(data: Path) -> None:
    """Properties in long form in two files; the newer category counts."""
    columns = "timestamp,itemid,property,value"
    first = listed(
        columns,
        (1435460400000, 461686, "categoryid", "1279"),
        (1441508400000, 461686, "categoryid", "1300"),
        (1435460400000, 461686, "888", "1285872 n6.000"),
    )
    second = listed(columns, (1435460400000, 461686, "available", "1"), (1435460400000, 206783, "categoryid", "9"))
    write(data / "retailrocket/item_properties_part1.csv", columns, first)
    write(data / "retailrocket/item_properties_part2.csv", columns, second)
    tree = listed("categoryid,parentid", (1300, 7), (9, ""))
    write(data / "retailrocket/category_tree.csv", "categoryid,parentid", tree)
    events = "timestamp,visitorid,event,itemid,transactionid"
    rows = listed(
        events,
        (1433221332117, 257597, "view", 461686, ""),
        (1433221999827, 257597, "addtocart", 461686, ""),
        (1433222276276, 257597, "transaction", 461686, "4000"),
        (1433221955914, 951259, "view", 206783, ""),
    )
    write(data / "retailrocket/events.csv", events, rows)


def hm(data: Path) -> None:
    """Article ids with a leading zero; a customer who left the club."""
    columns = "article_id,product_code,prod_name,product_type_no,product_type_name,product_group_name,colour_group_name"
    columns += ",index_group_name,garment_group_name,detail_desc"
    articles = listed(
        columns,
        (
            "0108775015",
            "0108775",
            "Strap top",
            253,
            "Vest top",
            "Garment Upper body",
            "Black",
            "Ladieswear",
            "Jersey Basic",
            "Jersey top.",
        ),
        (
            "0108775044",
            "0108775",
            "Strap top",
            253,
            "Vest top",
            "Garment Upper body",
            "White",
            "Ladieswear",
            "Jersey Basic",
            "",
        ),
    )
    write(data / "hm/articles.csv", columns, articles)
    columns = "customer_id,FN,Active,club_member_status,fashion_news_frequency,age,postal_code"
    customers = listed(columns, ("c1", "", "", "ACTIVE", "NONE", 49, "x"), ("c2", "", "", "LEFT CLUB", "NONE", 25, "y"))
    write(data / "hm/customers.csv", columns, customers)
    columns = "t_dat,customer_id,article_id,price,sales_channel_id"
    rows = listed(
        columns,
        ("2018-09-20", "c1", "0108775015", 0.0508, 2),
        ("2018-09-20", "c1", "0108775044", 0.0305, 2),
        ("2018-09-21", "c2", "0108775015", 0.0305, 1),
    )
    write(data / "hm/transactions_train.csv", columns, rows)


def olist(data: Path) -> None:
    """Two orders of one person under two customer ids, one cancelled order; a product without a category."""
    folder = data / "olist"
    columns = "product_id,product_category_name,product_name_lenght,product_description_lenght,product_photos_qty"
    columns += ",product_weight_g"
    products = listed(columns, ("p1", "perfumaria", 40, 287, 1, 225), ("p2", "", "", "", "", 1000))
    write(folder / "olist_products_dataset.csv", columns, products)
    columns = "product_category_name,product_category_name_english"
    write(
        folder / "product_category_name_translation.csv",
        columns,
        listed(columns, ("perfumaria", "perfume_shop")),
    )
    columns = "order_id,order_item_id,product_id,seller_id,shipping_limit_date,price,freight_value"
    lines = listed(
        columns,
        ("o1", 1, "p1", "s", "2017-09-19 09:45:35", "58.90", "13.29"),
        ("o1", 2, "p1", "s", "2017-09-19 09:45:35", "58.90", "13.29"),
        ("o2", 1, "p2", "s", "2017-09-19 09:45:35", "19.90", "13.29"),
        ("o3", 1, "p2", "s", "2017-09-19 09:45:35", "19.90", "13.29"),
    )
    write(folder / "olist_order_items_dataset.csv", columns, lines)
    columns = (
        "order_id,customer_id,order_status,order_purchase_timestamp,order_approved_at,order_delivered_carrier_date"
    )
    bought = "2017-09-13 08:59:02"
    orders = listed(
        columns,
        ("o1", "c1", "delivered", bought, bought, ""),
        ("o2", "c2", "shipped", "2017-10-02 10:56:33", bought, ""),
        ("o3", "c3", "canceled", bought, "", ""),
    )
    write(folder / "olist_orders_dataset.csv", columns, orders)
    columns = "customer_id,customer_unique_id,customer_zip_code_prefix,customer_city,customer_state"
    rows = [
        ("c1", "u1", "01151", "sao paulo", "SP"),
        ("c2", "u1", "01151", "sao paulo", "SP"),
        ("c3", "u2", "08775", "mogi", "SP"),
    ]
    write(folder / "olist_customers_dataset.csv", columns, listed(columns, *rows))


PLATFORMS: dict[str, Callable[[Path], None]] = {
    each.__name__: each
    for each in (
        shopify,
        woocommerce,
        google_merchant_xml,
        google_merchant_tsv,
        ga4,
        rees46,
        retailrocket,
        hm,
        olist,
    )
}
