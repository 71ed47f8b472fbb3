"""Going on after Postgres lost entries: from the stream's copy of them, or without."""
