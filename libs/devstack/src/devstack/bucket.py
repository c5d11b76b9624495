"""The bucket is a folder: object names are its relative paths."""

from devstack.part import Site


def url(site: Site) -> str:
    return site.data("bucket").as_uri()


def make(site: Site) -> None:
    site.data("bucket").mkdir(parents=True, exist_ok=True)
