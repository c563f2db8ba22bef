"""From vectors to clusters with a chosen k, a lasting identity and a name."""
