"""More than one process or machine, by Ray (extra `ray`): tracks in shards, many captures at once. No arithmetic."""
