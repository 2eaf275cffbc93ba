"""Looking after sweeps that are there: status, show, stop, delete. Light, and no burden for a running driver."""
