"""The query of a section whose files can't be read as they are: one column for each field, by the field's name."""

from __future__ import annotations

from shelfkin.drafting.plan import Section, source_of, type_of_file
from shelfkin.drafting.recognise import Recognised
from shelfkin.drafting.shop_file import quoted

# What a row of a product or an order has of its own, however the rest is filled down.
_OWN = {"product_id", "price", "quantity", "in_stock", "order_id"}


def query_columns(section: Section) -> dict[str, str | list[str]]:
    """Return the column of each field in the query's result."""
    fields = {**section.also, **section.fields}
    return {
        name: [f"{name}_{position}" for position, _ in enumerate(column, start=1)] if isinstance(column, list) else name
        for name, column in fields.items()
    }


def write_query(section: Section) -> str:
    """Return the Spark SQL of a section, a line for each column."""
    parts = [_select(section, section.main)]
    parts += [_select(section, other) for other in section.unions]
    return "\nUNION ALL\n".join(parts)


def _select(section: Section, of: Recognised) -> str:
    columns: list[str] = []
    for name in (*section.fields, *section.also):
        columns += _columns(section, of, name)
    if "occurred_at" in section.fields:
        # Two lines of one order that say the same must not be taken for copies of one line.
        row = "concat_ws(' ', number, to_json(entry))" if of.file.unnested else f"to_json(struct({of.file.name}.*))"
        columns.append(f"{row} AS whole_row")
    conditions = {name: template for name, template in section.wheres.items() if of.has(name) or section.join}
    inside = section.fill_down is not None and of is section.main
    if inside:
        columns += [f"{_filled(section, of, name)} AS {name}" for name in conditions if name not in section.fields]
    joined = "SELECT\n  " + ",\n  ".join(columns) + f"\nFROM {of.file.name}"
    if of.file.unnested:
        joined += f" LATERAL VIEW OUTER posexplode({of.file.unnested_spark}) entries AS number, entry"
    if section.join and of is section.main:
        joined += f"\n{section.join}"
    if not conditions:
        return joined
    where = " AND ".join(
        template.format(name if inside else _expression(section, of, name)) for name, template in conditions.items()
    )
    if inside:
        indented = joined.replace("\n", "\n  ")
        return f"SELECT * FROM (\n  {indented}\n)\nWHERE {where}"
    return f"{joined}\nWHERE {where}"


def _columns(section: Section, of: Recognised, name: str) -> list[str]:
    column = section.fields.get(name) or section.also[name]
    if name == "title" and section.stands_in_for_title:
        return [f"{_title(of)} AS title"]
    if isinstance(column, list):
        return [f"{of.file.expressions[each]} AS {name}_{position}" for position, each in enumerate(column, start=1)]
    if name == "event_type" and not of.has(name):
        return [f"'{type_of_file(of)}' AS event_type"]
    if not of.has(name) and not section.join and name not in section.selected:
        return [f"{'1' if name == 'quantity' else 'NULL'} AS {name}"]
    if of is not section.main:
        return [f"{of.file.expressions[of.fields[name]]} AS {name}"]
    return [f"{_filled(section, of, name)} AS {name}"]


def _title(of: Recognised) -> str:
    """Return what stands in for a title: brand and category, or else the id."""
    named = ", ".join(of.file.expressions[of.fields[name]] for name in ("brand", "category_path") if of.has(name))
    by_id = f"concat('Product ', {of.file.expressions[of.fields['product_id']]})"
    return f"coalesce(nullif(concat_ws(' ', {named}), ''), {by_id})" if named else by_id


def _expression(section: Section, of: Recognised, name: str) -> str:
    if of is section.main and name in section.selected:
        return section.selected[name]
    holder = of if of.has(name) else source_of(section, name) or section.files[-1]
    column = holder.fields[name]
    return f"{holder.file.name}.{quoted(column)}" if section.join else holder.file.expressions[column]


def _filled(section: Section, of: Recognised, name: str) -> str:
    expression = _expression(section, of, name)
    if section.fill_down is None or name in _OWN:
        return expression
    return f"max({expression}) OVER (PARTITION BY {of.file.expressions[section.fill_down]})"
