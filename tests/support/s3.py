"""S3 for tests: moto's server. It speaks the protocol; it is neither Amazon's program nor MinIO's."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
from obstore.store import S3Store

from devstack.ports import choose
from support.polling import until

BUCKET = "drops"
_SERVE = "import sys; from moto.server import main; main(sys.argv[1:])"


@dataclass(frozen=True)
class S3:
    endpoint: str

    def environment(self, prefix: str = "") -> dict[str, str]:
        """What a service needs to have its bucket here."""
        return {
            "BUCKET_URL": f"s3://{BUCKET}/{prefix}",
            "AWS_ENDPOINT": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }

    def store(self, prefix: str = "") -> S3Store:
        return S3Store(
            BUCKET,
            prefix=prefix or None,
            endpoint=self.endpoint,
            region="us-east-1",
            access_key_id="test",
            secret_access_key="test",
            client_options={"allow_http": True},
        )


@asynccontextmanager
async def open_s3() -> AsyncIterator[S3]:
    """A server of its own with one empty bucket."""
    port = choose()
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _SERVE, "-H", "127.0.0.1", "-p", str(port)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    endpoint = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(timeout=5, trust_env=False) as http:

            async def made() -> bool:
                try:
                    return (await http.put(f"{endpoint}/{BUCKET}")).is_success
                except httpx.TransportError:
                    return False

            await until("the S3 server", made, deadline_s=60, every_s=0.2)
        yield S3(endpoint)
    finally:
        server.kill()
        await server.wait()
