from bigdata_client.client import ApiError, AsyncClient, UploadFailed

__all__ = ["ApiError", "AsyncClient", "UploadFailed"]
