"""What a profile makes of a shop's files, told before a run."""
