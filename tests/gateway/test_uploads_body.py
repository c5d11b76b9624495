import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable, Mapping

import pytest
from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import Message

from common.errors import BadHeader, ClientError, InvalidRequest, TooLarge, UnsupportedFormat
from gateway.upload_body import Arriving, BodyTooSlow, refuse_executable, shown_name

FORM = "multipart/form-data; boundary=XX"


def request(pieces: Iterable[bytes], headers: Mapping[str, str] | None = None, *, breaks_off: bool = False) -> Request:
    messages: list[Message] = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages.append({"type": "http.disconnect"} if breaks_off else {"type": "http.request", "body": b""})
    waiting = iter(messages)

    async def receive() -> Message:
        await asyncio.sleep(0)
        return next(waiting)

    raw = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    return Request({"type": "http", "method": "POST", "headers": raw}, receive)


async def arrive(arriving: Arriving, sent: Request) -> bytes:
    return b"".join([piece async for piece in arriving.pieces(sent)])


def limits(bytes_max: int = 1000) -> Arriving:
    return Arriving(bytes_max, idle_s=5)


def form(*parts: bytes, end: bytes = b"--XX--\r\n") -> bytes:
    return b"".join(b"--XX\r\n" + part + b"\r\n" for part in parts) + end


def part(content: bytes, name: bytes = b"file", extra: bytes = b'; filename="a.csv"') -> bytes:
    return b'Content-Disposition: form-data; name="' + name + b'"' + extra + b"\r\n\r\n" + content


async def test_a_raw_body_passes_through_counted_and_hashed() -> None:
    arriving = limits()
    assert await arrive(arriving, request([b"a,b\n", b"", b"1,2\n"])) == b"a,b\n1,2\n"
    assert (arriving.size, arriving.sha256) == (8, hashlib.sha256(b"a,b\n1,2\n").hexdigest())
    assert arriving.filename is None


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
async def test_a_form_gives_the_bytes_of_its_file_however_it_is_cut(size: int) -> None:
    content = b"a,b\r\n--X\r\n1,2\r\n--XY\r\n"
    body = form(part(content))
    arriving = limits()
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    assert await arrive(arriving, request(pieces, {"content-type": FORM})) == content
    assert (arriving.filename, arriving.size) == ("a.csv", len(content))


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        (b"", BadHeader),
        (b"not a form at all", BadHeader),
        (form(part(b"x"), end=b""), BadHeader),
        (form(part(b"x"))[:-12], BadHeader),
        (form(part(b"x", name=b"other")), InvalidRequest),
        (form(part(b"x"), part(b"y")), InvalidRequest),
        (form(b"X-None: 1\r\n\r\nx"), InvalidRequest),
        (form(part(b"")), InvalidRequest),
        (form(b"A: " + b"h" * 100_000 + b"\r\n\r\nx"), BadHeader),
    ],
)
async def test_a_form_that_is_none_is_refused(body: bytes, refusal: type[ClientError]) -> None:
    with pytest.raises(refusal):
        await arrive(limits(10**6), request([body], {"content-type": FORM}))


async def test_a_form_without_boundary_is_refused() -> None:
    with pytest.raises(BadHeader):
        await arrive(limits(), request([form(part(b"x"))], {"content-type": "multipart/form-data"}))


async def test_an_empty_body_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        await arrive(limits(), request([]))


async def test_a_body_over_the_limit_is_refused_before_it_is_read_when_it_says_so() -> None:
    with pytest.raises(TooLarge) as refusal:
        await arrive(limits(), request([], {"content-length": str(1 << 40)}))
    assert refusal.value.details == {"bytes_max": 1000}


async def test_a_body_over_the_limit_is_refused_at_the_first_byte_too_many() -> None:
    arriving = limits()
    with pytest.raises(TooLarge):
        await arrive(arriving, request([b"x" * 400] * 10))
    assert arriving.size == 1200


@pytest.mark.parametrize("declared", ["-1", "1e3", "٣", "5,5", "9" * 40])
async def test_a_length_that_is_no_number_is_refused(declared: str) -> None:
    sent = request([b"x"])
    sent.scope["headers"] = [(b"content-length", declared.encode("utf-8"))]
    with pytest.raises(BadHeader):
        await arrive(limits(), sent)


@pytest.mark.parametrize("declared", [3, 5])
async def test_a_length_that_is_not_the_bodys_is_refused(declared: int) -> None:
    with pytest.raises(BadHeader):
        await arrive(limits(), request([b"abcd"], {"content-length": str(declared)}))


async def test_a_client_that_breaks_off_ends_the_upload() -> None:
    with pytest.raises(ClientDisconnect):
        await arrive(limits(), request([b"abcd"], breaks_off=True))


async def test_a_body_that_stops_arriving_is_ended() -> None:
    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    stuck = Request({"type": "http", "method": "POST", "headers": []}, receive)
    with pytest.raises(BodyTooSlow):
        await arrive(Arriving(1000, idle_s=0.01), stuck)


@pytest.mark.parametrize(
    "head",
    [
        b"\x7fELF\x02\x01\x01",
        b"MZ\x90\x00\x03",
        b"\xcf\xfa\xed\xfe\x07",
        b"\xfe\xed\xfa\xce",
        b"\xca\xfe\xba\xbe\x00\x00\x00\x02",
    ],
)
async def test_a_program_is_refused_whatever_it_is_called_and_however_it_is_cut(head: bytes) -> None:
    with pytest.raises(UnsupportedFormat):
        await arrive(limits(), request([head + b"\x00" * 100]))
    with pytest.raises(UnsupportedFormat):
        await arrive(limits(), request([bytes([byte]) for byte in head + b"\x00" * 100]))


@pytest.mark.parametrize("head", [b"MZ,Maputo\n", b"ELF,1\n", b"PAR1", b"\xff\xfeM\x00Z\x00", b"\x1f\x8b\x08"])
def test_data_is_not_taken_for_a_program(head: bytes) -> None:
    refuse_executable(head)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "../../etc/passwd"),
        ("a\r\nb\x00.csv", "a\\u000d\\u000ab\\u0000.csv"),
        ("\x1b[31mred", "\\u001b[31mred"),
        ("naïve 文件.csv", "naïve 文件.csv"),
        ("\ud800", "\\ud800"),
        ("x" * 4096, "x" * 1024),
        ("\n" * 1024, ("\\u000a" * 171)[:1024]),
    ],
)
def test_a_file_name_is_opaque_text(name: str, shown: str) -> None:
    assert shown_name(name) == shown


async def test_pieces_are_passed_on_one_by_one() -> None:
    async def first(pieces: AsyncIterator[bytes]) -> bytes:
        return await anext(pieces)

    assert await first(limits(10**9).pieces(request([b"x" * 10] * 100))) == b"x" * 10
