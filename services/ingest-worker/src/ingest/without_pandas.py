"""pyarrow imports pandas at its first array wherever it is installed: a second and 60 MiB for nothing here."""

import sys
from importlib.abc import MetaPathFinder


class _WithoutPandas(MetaPathFinder):
    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        del path, target
        if fullname == "pandas":
            raise ModuleNotFoundError(fullname, name=fullname)


def hide_pandas() -> None:
    """Before the first import of pyarrow."""
    sys.meta_path.insert(0, _WithoutPandas())
