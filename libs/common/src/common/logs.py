"""Structured logs: one JSON object a line on stderr, whatever a client put into a field."""

import json
import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import orjson
import structlog

from common.tracing import trace_id

# Whatever carries a secret is logged as its name only. Keys of callers never reach a log call at all.
_SECRET_WORDS = ("password", "secret", "token", "api_key", "authorization")


def configure_logs(process: str, level: str) -> None:
    """Send structlog and the standard library's loggers through one JSON renderer, bound to the process name."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _name_trace,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        _hide_secrets,
    ]
    renderer = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _Json(process)],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(renderer)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for noisy in ("aiokafka", "httpx", "uvicorn.access", "faststream"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(level)))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        cache_logger_on_first_use=True,
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger


def _name_trace(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if (current := trace_id()) is not None:
        event["trace_id"] = current
    return event


def _hide_secrets(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key in event:
        if any(word in key.lower() for word in _SECRET_WORDS):
            event[key] = "hidden"
    return event


class _Json:
    """Renders to JSON; control characters are escaped, so a CRLF in a field cannot forge a line."""

    def __init__(self, process: str) -> None:
        self._process = process

    def __call__(self, _: Any, __: str, event: MutableMapping[str, Any]) -> str:
        line = {"process": self._process, **event}
        try:
            return orjson.dumps(line, default=repr).decode()
        except orjson.JSONEncodeError:
            # Half a surrogate pair, or a number beyond 64 bits: logging would print it itself, in many lines.
            return json.dumps(line, default=repr)
