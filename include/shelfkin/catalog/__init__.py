"""From a shop's raw catalogue to the products table."""
