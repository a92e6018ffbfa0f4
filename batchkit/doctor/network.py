"""The way to a service, a step at a time: its name, its port, its certificate."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import closing
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from batchkit.config import Target
from batchkit.model import Finding
from batchkit.text import visible

PATIENCE_S = 10.0
_CERTIFICATE = {
    9: "its certificate is not valid yet",
    10: "its certificate has expired",
    18: "its certificate is self-signed, so nobody vouches for it",
    19: "an authority that this machine does not know signed its certificate",
    20: "an authority that this machine does not know signed its certificate",
    21: "an authority that this machine does not know signed its certificate",
    62: "its certificate is for another name",
    64: "its certificate is for another address",
}
"""What is wrong with a certificate, by OpenSSL's verification code."""
_DATES = frozenset({9, 10})
_NAMES = frozenset({62, 64})


async def way(target: Target) -> list[Finding]:
    """What was found on the way to a target, up to the first step that cannot be gone."""
    parts = urlsplit(target.base_url)
    host, https = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if https else 80)
    if not target.local and (proxy := getproxies().get(parts.scheme)) and not proxy_bypass(host):
        through = urlsplit(proxy).hostname or "a proxy"
        return [Finding("connection", "ok", f"by way of {through}, the proxy of the environment, which finds {host}")]
    found = [await asyncio.to_thread(_name, host, port)]
    if found[-1].verdict == "ok":
        found.append(await asyncio.to_thread(_port, host, port, target.local))
    if found[-1].verdict == "ok" and https:
        found.append(await asyncio.to_thread(_tls, host, port))
    return found


def _name(host: str, port: int) -> Finding:
    try:
        addresses = {str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except OSError as error:
        hint = "check the endpoint's name; a resource with a private endpoint only has one inside its own network"
        return Finding("dns", "problem", f"{host} has no address ({visible(error.strerror or '', 80)})", hint, 6)
    return Finding("dns", "ok", f"{host} is {', '.join(sorted(addresses)[:3])}")


def _port(host: str, port: int, local: bool) -> Finding:
    where = f"{host}, port {port},"
    try:
        with closing(socket.create_connection((host, port), PATIENCE_S)):
            return Finding("connection", "ok", f"{where} is open")
    except ConnectionRefusedError:
        hint = "start the service: batchkit emulate" if local else "check the port, and that nothing is in between"
        return Finding("connection", "problem", f"{where} refuses connections", hint, 6)
    except TimeoutError:
        hint = "a firewall may be in between, or a proxy is needed: export HTTPS_PROXY=http://HOST:PORT"
        return Finding("connection", "problem", f"{where} did not answer in {PATIENCE_S:.0f} s", hint, 6)
    except OSError as error:
        words = f"{where} cannot be reached: {(error.strerror or str(error)).lower()}"
        return Finding("connection", "problem", words, "check the network", 6)


def _tls(host: str, port: int) -> Finding:
    """A handshake just as requests do it, with the authorities that they trust."""
    try:
        with (
            closing(socket.create_connection((host, port), PATIENCE_S)) as plain,
            httpx.create_ssl_context().wrap_socket(plain, server_hostname=host) as secure,
        ):
            until = (secure.getpeercert() or {}).get("notAfter", "?")
            return Finding("tls", "ok", f"{secure.version()}, certificate good until {until}")
    except ssl.SSLCertVerificationError as error:
        words = _CERTIFICATE.get(error.verify_code, f"its certificate does not verify ({error.verify_message})")
        hint = "if a proxy of your company inspects traffic: export SSL_CERT_FILE=its-authorities.pem"
        if error.verify_code in _DATES:
            hint = "check this machine's clock first, then tell whoever runs the service"
        elif error.verify_code in _NAMES:
            hint = "check the endpoint's name"
        return Finding("tls", "problem", f"{host}: {words}", hint, 6)
    except ssl.SSLError as error:
        words = f"{host}, port {port}, does not speak TLS ({error.reason or 'no handshake'})"
        return Finding(
            "tls", "problem", words, "check the port, and whether the endpoint is http:// on this machine", 6
        )
    except OSError as error:
        words = f"{host} broke off the TLS handshake ({(error.strerror or type(error).__name__).lower()})"
        return Finding("tls", "problem", words, "something in between may forbid it: try from another network", 6)
