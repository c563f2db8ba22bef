"""shelfkin: product clusters, similar products and personal recommendations from a shop's catalogue and events."""

__version__ = "0.1.0"
