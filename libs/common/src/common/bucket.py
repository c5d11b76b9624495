"""The bucket: a local folder or S3, by URL. Keys are opaque: a client's file name is never part of one."""

from pathlib import Path
from uuid import UUID

from obstore.store import LocalStore, ObjectStore, from_url

from common.settings import BucketSettings

INBOX = "inbox/"
UPLOADS = "uploads/"


def open_bucket(settings: BucketSettings) -> ObjectStore:
    """The object store of BUCKET_URL. A folder is made when it is missing; S3 reads the usual AWS_* variables."""
    if settings.bucket_url.startswith("file://"):
        folder = Path(settings.bucket_url.removeprefix("file://"))
        folder.mkdir(parents=True, exist_ok=True)
        return LocalStore(folder)
    store: ObjectStore = from_url(settings.bucket_url)
    return store


def object_key(upload_id: UUID) -> str:
    return f"{UPLOADS}{upload_id}/object"


def announcement_key(upload_id: UUID) -> str:
    """The UploadReceived event as JSON, written after the object: its presence says that the object is complete."""
    return f"{UPLOADS}{upload_id}/received.json"
