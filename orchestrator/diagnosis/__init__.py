"""diagnose: a network looked at before or after its training; tables for the terminal, and one offline page."""
