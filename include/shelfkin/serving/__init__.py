"""Publishing a run's tables and answering look-ups from them."""
