"""The sweep's ledger: its file, its events, what they add up to, and which folder a name means."""
