"""One style, and one file per picture."""
