"""What every room stands on: errors, records, names, locks, signals. Nothing here knows any other room."""
