"""The report of a sweep: one HTML file with linked figures, which needs no network. `build.write_report` writes it."""
