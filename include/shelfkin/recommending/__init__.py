"""From events, vectors and clusters to similar products and personal lists with reasons."""
