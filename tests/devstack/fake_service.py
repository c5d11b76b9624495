"""Stands in for each of the four services where the stack's own behaviour is tested: `migrate`, `serve`, /readyz."""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._send(200, dict(os.environ))

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._send(201, {"user": asked, "api_key": f"bd_key_of_{asked['username']}"})

    def _send(self, status: int, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def listen(port: str) -> None:
    ThreadingHTTPServer(("127.0.0.1", int(port)), Answer).serve_forever()


if sys.argv[1] == "migrate":
    sys.exit(os.environ.get("FAKE_MIGRATION_FAULT"))
if "SERVER_PORT" in os.environ:
    Thread(target=listen, args=(os.environ["SERVER_PORT"],), daemon=True).start()
listen(os.environ["OPS_PORT"])
