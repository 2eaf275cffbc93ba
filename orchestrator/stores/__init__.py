"""Access to MLflow stores: a local SQLite file, a server, or any other database; written, read and deleted from.

MLflow is imported by `client.py` with its first request, and by the process that `schema.py` starts to create a new store;
everything else is light.
"""
