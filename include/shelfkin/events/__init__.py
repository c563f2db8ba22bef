"""From a shop's raw event log to the events table."""
