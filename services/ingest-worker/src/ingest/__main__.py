import sys

# pyarrow and clickhouse-connect import pandas wherever it is installed: a second and 60 MiB for nothing.
sys.modules["pandas"] = None  # type: ignore[assignment]

from ingest.main import main  # noqa: E402

main()
