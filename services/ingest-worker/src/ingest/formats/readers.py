"""The reader of each format."""

from common.datasets import Dataset
from ingest.formats.batch import Reader
from ingest.formats.csv import CsvReader
from ingest.formats.json_lines import JsonLinesReader
from ingest.formats.layout import Layout


def reader_of(layout: Layout, dataset: Dataset) -> Reader:
    if layout.format == "csv":
        return CsvReader(layout, dataset)
    return JsonLinesReader(dataset)
