from ingest.without_pandas import hide_pandas

hide_pandas()

from ingest.main import main  # noqa: E402

main()
