"""The only room that knows MLflow: it ships a sweep's journal there and serves its dashboard.

`preflight`, `status` and `dashboard` are light; the shipper is a process of its own, and MLflow itself is imported only
where its plain interfaces (the SQLite schema, the REST API) do not reach.
"""
