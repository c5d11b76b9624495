"""ClickHouse for one machine: the embedded engine behind the ClickHouse HTTP interface.

For development, tests and demonstration. Start it with
`python -m devstack.clickhouse_http --folder PATH --host 127.0.0.1 --port N`.
"""
