"""Services on this machine that answer a little of the API, wrongly: with another date, status, or certificate."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import time
from typing import Any

CERTIFICATES = Path(__file__).parent / "certificates"
"""A test authority and what it signed: `good`, `expired` (in 2021), `other-name`; and one that is `self-signed`."""


@contextmanager
def serving(
    *, files: Sequence[dict[str, Any]] = (), status: int = 200, ahead_s: float = 0.0, certificate: str | None = None
) -> Iterator[str]:
    """A service that lists `files` and no batches, or answers everything with `status`; its clock is `ahead_s`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            entries = list(files) if "/files" in self.path else []
            document: dict[str, Any] = {"object": "list", "data": entries, "has_more": False}
            if status != 200:
                document = {"error": {"code": str(status), "message": "The service says no."}}
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def date_time_string(self, timestamp: float | None = None) -> str:
            return formatdate(time() + ahead_s, usegmt=True)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """A handshake that the client breaks off is what is tested."""

    server = Server(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATES / f"{certificate}.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"{'https' if certificate else 'http'}://localhost:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
