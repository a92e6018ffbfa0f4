"""Services on this machine that answer a little of the API, wrongly: with another date, status, or certificate."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import time
from typing import Any

import trustme

AUTHORITY = trustme.CA()
"""What signed the certificates that are `good`, `expired` or for an `other-name`, but not a `self-signed` one."""


def _certificate(kind: str) -> tuple[trustme.Blob, trustme.Blob]:
    """The certificate and its key."""
    if kind == "self-signed":
        nobody = trustme.CA()
        return nobody.cert_pem, nobody.private_key_pem
    ends = datetime(2021, 1, 1, tzinfo=UTC) if kind == "expired" else None
    made = AUTHORITY.issue_cert("example.com" if kind == "other-name" else "localhost", not_after=ends)
    return made.cert_chain_pems[0], made.private_key_pem


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
        chain, key = _certificate(certificate)
        with chain.tempfile() as chain_file, key.tempfile() as key_file:
            context.load_cert_chain(chain_file, key_file)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"{'https' if certificate else 'http'}://localhost:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
