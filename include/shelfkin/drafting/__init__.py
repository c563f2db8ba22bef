"""A first profile for a shop, drafted from its files."""
