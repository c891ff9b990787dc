"""What runs: one file per job; `annotate.build()` read from top to bottom is the data flow."""
