"""Worker processes: running jobs of every kind, leases, engines, the launcher."""
