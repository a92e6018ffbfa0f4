"""A token service on loopback: managed identities over http, Microsoft Entra's own endpoints over https."""

from __future__ import annotations

import json
import secrets
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from batchkit.emulator import Emulator


class Tokens(ThreadingHTTPServer):
    """Issues tokens that open `service`, each for `calls` calls (None: for good) and `lifetime_s` seconds by its own
    word; `issued` and `asked` (the parameters it was asked with) tell what happened. While `down` it answers 400."""

    daemon_threads = True

    def __init__(self, service: Emulator, calls: int | None = None, lifetime_s: int = 3600) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.service, self.calls, self.lifetime_s, self.down = service, calls, lifetime_s, False
        self.issued: list[str] = []
        self.asked: list[dict[str, str]] = []

    @property
    def netloc(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def issue(self, asked: dict[str, str]) -> str:
        self.asked.append(asked)
        token = f"token-{len(self.issued)}-{secrets.token_hex(8)}"
        self.issued.append(token)
        self.service.accept(token, self.calls)
        return token


class _Handler(BaseHTTPRequestHandler):
    server: Tokens

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        asked = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if parts.path.endswith("/openid-configuration"):
            base = f"https://{self.server.netloc}{parts.path.partition('/v2.0')[0]}"
            token = f"{base}/oauth2/v2.0/token"
            self._say(200, {"issuer": base, "authorization_endpoint": f"{base}/authorize", "token_endpoint": token})
        elif self.server.down or self.headers.get("X-IDENTITY-HEADER") != "identity-header-5d1":
            self._say(400, {"error": "invalid_request", "error_description": "nobody is at home"})
        else:
            until = int(time.time()) + self.server.lifetime_s
            token = self.server.issue(asked)
            self._say(200, {"access_token": token, "expires_on": str(until), "token_type": "Bearer", "resource": "r"})

    def do_POST(self) -> None:
        form = self.rfile.read(int(self.headers["Content-Length"])).decode()
        asked = {key: values[0] for key, values in parse_qs(form).items()}
        if self.server.down:
            self._say(400, {"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret."})
        else:
            token = self.server.issue(asked)
            self._say(200, {"access_token": token, "expires_in": self.server.lifetime_s, "token_type": "Bearer"})

    def _say(self, status: int, document: Mapping[str, str | int]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(
    service: Emulator, *, calls: int | None = None, lifetime_s: int = 3600, tls: ssl.SSLContext | None = None
) -> Iterator[Tokens]:
    """A running token service."""
    with Tokens(service, calls, lifetime_s) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
