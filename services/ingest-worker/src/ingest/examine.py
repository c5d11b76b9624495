"""What a file is, all the way down to its columns: unpacked as far as needed, and nothing of it loaded."""

from dataclasses import dataclass, replace

from common.datasets import Dataset
from ingest.formats import parquet, xml
from ingest.formats.archives import Member, members
from ingest.formats.layout import Compression, Layout, Unreadable
from ingest.formats.sandbox import Limits
from ingest.formats.sniff import SAMPLE_BYTES, Sample, packing_of, sniff, unpacked_name
from ingest.source import Stored

_OFFICE_MEMBER = "[Content_Types].xml"


@dataclass(frozen=True)
class Said:
    """What the sender says of a file: its name, its format, and the XML element that is a record."""

    filename: str = ""
    format: str | None = None
    record: str | None = None


def examined(stored: Stored, dataset: Dataset, limits: Limits, said: Said) -> Layout:
    """Blocking. Raises Unreadable with one sentence for whoever sent the file."""
    sample = Sample(
        stored.read_at(0, SAMPLE_BYTES), stored.size <= SAMPLE_BYTES, said.filename, said.format, said.record
    )
    if packing := packing_of(sample):
        return _packed(stored, packing, sample, dataset, limits)
    layout = _detailed(sniff(sample, dataset), sample, dataset, limits)
    if layout.format == "parquet":
        found = parquet.footer(stored.read_at, stored.size, dataset, limits)
        return layout.model_copy(update={"header": found.columns, "groups": found.rows})
    return layout


def _packed(stored: Stored, packing: Compression, outer: Sample, dataset: Dataset, limits: Limits) -> Layout:
    """Every file inside is looked at before the first is loaded."""
    layouts: list[Layout] = []
    with members(packing, stored.read_at, stored.size, limits, head_bytes=SAMPLE_BYTES + 1) as inside:
        for member in inside:
            sample = _sample_of(member, outer)
            try:
                layouts.append(_member_layout(sample, packing, dataset, limits))
            except Unreadable as exc:
                raise Unreadable(f"{member.name[:200]}: {exc}" if member.name else str(exc)) from None
    if packing == "zip":
        return Layout(format=layouts[0].format, compression=packing, members=tuple(layouts))
    return layouts[0]


def _sample_of(member: Member, outer: Sample) -> Sample:
    if member.name == _OFFICE_MEMBER:
        raise Unreadable("unsupported format: the content is an Office document, export it as CSV")
    data = member.source.read(SAMPLE_BYTES + 1)
    name = member.name or unpacked_name(outer.filename)
    return replace(outer, data=data[:SAMPLE_BYTES], whole=len(data) <= SAMPLE_BYTES, filename=name)


def _member_layout(sample: Sample, packing: Compression, dataset: Dataset, limits: Limits) -> Layout:
    if not sample.data and packing == "zip":
        return Layout(format="json_lines", compression=packing)  # an empty file has no rows, whatever it is
    if inner := packing_of(replace(sample, filename="")):
        raise Unreadable(f"there is {inner} inside of it: pack once, not twice")
    layout = sniff(sample, dataset)
    if layout.format == "parquet":
        raise Unreadable("Parquet is packed in itself already: send it as it is")
    return _detailed(layout, sample, dataset, limits).model_copy(update={"compression": packing})


def _detailed(layout: Layout, sample: Sample, dataset: Dataset, limits: Limits) -> Layout:
    if layout.format != "xml":
        return layout
    path = xml.record_path(sample.data, dataset, limits, whole=sample.whole, given=sample.record)
    return layout.model_copy(update={"path": path})
