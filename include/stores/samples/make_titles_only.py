"""Write titles_only.csv: an invented catalogue of a general store, the same bytes on every run.

Every product is made up from the words below; no brand, text or id comes from a real shop. Run it in this folder:
``python make_titles_only.py``.
"""

from __future__ import annotations

import csv
import itertools
import random
from dataclasses import dataclass
from pathlib import Path

N_PRODUCTS = 1200
FIRST_NUMBER = 101


@dataclass(frozen=True)
class Aisle:
    """One aisle: titles are "<style> <thing>, <variant>", descriptions one sentence of use and one of make."""

    styles: tuple[str, ...]
    things: tuple[str, ...]
    variants: tuple[str, ...]
    uses: tuple[str, ...]
    makes: tuple[str, ...]


AISLES = {
    "kitchen": Aisle(
        ("Cast iron", "Non-stick", "Stainless steel", "Enamelled", "Copper-base"),
        ("frying pan", "saucepan with lid", "casserole dish", "griddle pan", "stockpot", "milk pan"),
        ("18 cm", "20 cm", "24 cm", "28 cm"),
        ("For everyday cooking on gas, electric and ceramic hobs.", "Heats evenly and keeps food warm at the table."),
        ("Riveted handle with a hanging loop.", "Oven safe to 220 °C; wash by hand."),
    ),
    "tableware": Aisle(
        ("Stoneware", "Bone china", "Hand-glazed", "Speckled", "Porcelain"),
        ("dinner plate", "cereal bowl", "coffee mug", "serving platter", "espresso cup and saucer", "side plate"),
        ("white", "sage green", "navy rim", "set of 4"),
        ("Plain enough for weekdays, good enough for guests.", "Stacks neatly in a small cupboard."),
        ("Dishwasher and microwave safe.", "Glazed inside and out; small colour differences are normal."),
    ),
    "bedding": Aisle(
        ("Brushed cotton", "Linen", "Organic cotton percale", "Washed microfibre", "Bamboo"),
        ("duvet cover set", "fitted sheet", "pillowcase pair", "bedspread", "mattress protector"),
        ("single", "double", "king size", "cot size"),
        ("Soft from the first night and softer with each wash.", "Breathes well in summer and keeps warm in winter."),
        ("Machine wash at 40 °C.", "Button closing and deep corners."),
    ),
    "garden tools": Aisle(
        ("Ash-handled", "Carbon steel", "Long-reach", "Lightweight", "Telescopic"),
        ("hand trowel", "pruning shears", "border fork", "leaf rake", "hedge clippers", "garden spade"),
        ("with wall hook", "for small hands", "standard", "left-handed"),
        ("For planting, weeding and tidying beds.", "Cuts green wood cleanly, so that plants heal quickly."),
        ("Rust-resistant blade with a ten-year guarantee.", "Balanced to spare wrists and back."),
    ),
    "plants and seeds": Aisle(
        ("Heirloom", "Early", "Dwarf", "Climbing", "Hardy"),
        (
            "tomato seeds",
            "sweet pea seeds",
            "lavender plant",
            "runner bean seeds",
            "geranium plug plants",
            "basil seeds",
        ),
        ("50 seeds", "pack of 6", "large packet", "for containers"),
        ("Sow indoors from March and plant out after the last frost.", "Loved by bees and easy for beginners."),
        ("Grown without peat.", "Germination tested; sowing notes on the packet."),
    ),
    "coffee and tea": Aisle(
        ("Fair trade", "Decaffeinated", "Single-origin", "Organic", "House blend"),
        ("coffee beans", "ground coffee", "loose leaf tea", "tea bags", "instant coffee"),
        ("250 g", "500 g", "1 kg", "gift tin"),
        ("Full-bodied with notes of cocoa and toasted nuts.", "Bright and fragrant; good with or without milk."),
        ("Packed within a day of roasting.", "Resealable bag; store in a cool, dry place."),
    ),
    "children's toys": Aisle(
        ("Wooden", "My first", "Magnetic", "Glow-in-the-dark", "Soft plush"),
        ("train set", "building blocks", "dinosaur", "animal puzzle", "shape sorter", "stacking rings"),
        ("24 pieces", "48 pieces", "small", "large"),
        ("Builds hand skills through play.", "Made for ages three and up, and for grandparents."),
        ("Water-based paint; no small parts.", "Comes in a cotton bag that fits a toy box."),
    ),
    "stationery": Aisle(
        ("Ruled", "Dotted", "Recycled", "Hardback", "Pocket"),
        ("notebook", "sketch pad", "weekly planner", "address book", "lined journal"),
        ("A4", "A5", "A6", "pack of 3"),
        ("Lies flat when open, for notes at any desk.", "Thick paper that takes fountain pen ink without bleeding."),
        ("Sewn binding and a ribbon marker.", "100 g/m² acid-free paper."),
    ),
    "bathroom": Aisle(
        ("Egyptian cotton", "Quick-dry", "Waffle weave", "Memory foam", "Teak"),
        ("bath towel", "hand towel", "bath mat", "shower caddy", "face cloth set"),
        ("charcoal", "ivory", "ocean blue", "striped"),
        ("Absorbs well and dries overnight.", "Brings the calm of a spa to a small bathroom."),
        ("600 g/m² with double-stitched hems.", "Non-slip; safe with underfloor heating."),
    ),
    "camping": Aisle(
        ("Ultralight", "Waterproof", "Two-season", "Family", "Folding"),
        ("dome tent", "sleeping bag", "camp stove", "rucksack", "head torch", "camping chair"),
        ("1 person", "2 person", "compact", "extra large"),
        ("For weekends in the hills and festivals in the rain.", "Packs small enough for a bicycle pannier."),
        ("Taped seams and a repair kit included.", "Tested to minus five degrees."),
    ),
    "dog supplies": Aisle(
        ("Reflective", "Adjustable", "Chew-proof", "Padded", "Orthopaedic"),
        ("dog lead", "dog harness", "dog bed", "dog collar", "rubber chew toy"),
        ("small breeds", "medium breeds", "large breeds", "puppies"),
        ("Comfortable on long walks, and visible after dark.", "Gives restless dogs a place of their own."),
        ("Machine washable cover.", "Brass fittings that don't rust."),
    ),
    "lighting": Aisle(
        ("Dimmable", "Brushed brass", "Solar", "Rechargeable", "Industrial"),
        ("desk lamp", "floor lamp", "pendant light", "string lights", "LED bulb", "bedside lamp"),
        ("warm white", "daylight", "pack of 2", "matt black"),
        ("Sets a warm mood in the evening and lights work by day.", "Lights a path, a terrace or a reading corner."),
        ("Uses a tenth of the power of a filament bulb.", "Two-metre fabric cable with an inline switch."),
    ),
}


def products() -> list[tuple[str, str, str]]:
    """Return (product_id, title, description) of every product, in order of id."""
    rng = random.Random(20260101)
    per_aisle = N_PRODUCTS // len(AISLES)
    chosen = []
    for aisle in AISLES.values():
        every = list(itertools.product(aisle.styles, aisle.things, aisle.variants))
        for style, thing, variant in rng.sample(every, per_aisle):
            chosen.append((f"{style} {thing}, {variant}", f"{rng.choice(aisle.uses)} {rng.choice(aisle.makes)}"))
    rng.shuffle(chosen)
    return [(f"P{number}", *product) for number, product in enumerate(chosen, start=FIRST_NUMBER)]


def main() -> None:
    """Write the file beside this script."""
    target = Path(__file__).with_name("titles_only.csv")
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("product_id", "title", "description"))
        writer.writerows(products())


if __name__ == "__main__":
    main()
