"""The pictures of a run: one file per picture, one style for all of them."""
