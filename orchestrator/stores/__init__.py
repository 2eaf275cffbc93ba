"""Access to MLflow stores: a local SQLite file, a server, or any other database; written, read and deleted from.

Nothing here knows the journal's events. MLflow itself is imported by `client.py` and by the process that `schema.py` starts to
create a new store; everything else is light.
"""
