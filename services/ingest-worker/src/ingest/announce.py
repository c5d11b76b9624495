from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from common.errors import Transient
from common.events import UploadReceived
from common.topics import INGEST_UPLOADS


async def announce(producer: AIOKafkaProducer, event: UploadReceived) -> None:
    """Tell the planners of an upload. Twice does no harm. Raises Transient when Kafka does not take it."""
    try:
        await producer.send_and_wait(INGEST_UPLOADS.name, event.encoded(), str(event.upload_id).encode())
    except (KafkaError, OSError) as exc:
        raise Transient(f"an upload cannot be announced: {exc!r}") from exc
