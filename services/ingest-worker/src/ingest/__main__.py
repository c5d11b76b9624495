import sys
from importlib.abc import MetaPathFinder


class _WithoutPandas(MetaPathFinder):
    """pyarrow imports pandas at its first array wherever it is installed: a second and 60 MiB for nothing here."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        del path, target
        if fullname == "pandas":
            raise ModuleNotFoundError(fullname, name=fullname)


sys.meta_path.insert(0, _WithoutPandas())

from ingest.main import main  # noqa: E402

main()
