"""Server-sent events: lines become JSON documents."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass
class EventLines:
    """Fed line by line; gives a document at the end of each event. Comments and other fields are skipped."""

    last_id: str | None = None
    _data: list[str] = field(default_factory=list)

    def feed(self, line: str) -> Any:
        """The event's document, or None: the event goes on, or it was not JSON."""
        if line.startswith("id:"):
            self.last_id = line.removeprefix("id:").strip()
            return None
        if line.startswith("data:"):
            self._data.append(line.removeprefix("data:").removeprefix(" "))
            return None
        if line or not self._data:
            return None
        text, self._data = "\n".join(self._data), []
        try:
            return json.loads(text)
        except ValueError:
            return None
