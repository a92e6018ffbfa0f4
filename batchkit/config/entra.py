"""Microsoft Entra ID, through azure-identity: a service principal, a workload or managed identity, `az login`.

Which of them is azure-identity's `DefaultAzureCredential` to find, by its own variables (`AZURE_CLIENT_ID`,
`AZURE_TENANT_ID`, `AZURE_TOKEN_CREDENTIALS`, …). Tokens are kept in memory only, here and there.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from batchkit.config.credentials import Credential, Fetched, Secret, aside, hidden
from batchkit.errors import CredentialError, MissingExtra, Unavailable
from batchkit.text import visible

SCOPE = "https://cognitiveservices.azure.com/.default"
"""Azure's batch guide and API descriptions; newer guides of the v1 API have https://ai.azure.com/.default."""
WAYS = (
    "az login; or a service principal in AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET; or a managed "
    "identity; or a key: export AZURE_OPENAI_API_KEY=…"
)
TIMEOUT_S = 60.0
EARLY_S = 300.0
"""A token is asked for again so long before its end, as azure-core does."""
_US = ("https://login.microsoftonline.us", "https://cognitiveservices.azure.us/.default")
_CN = ("https://login.chinacloudapi.cn", "https://cognitiveservices.azure.cn/.default")
_CLOUDS = {".azure.us": _US, ".microsoft.us": _US, ".azure.cn": _CN}
"""The authority and the scope of the clouds other than the public one, by how their hosts end."""
_KNOWN = ("microsoftonline.com", "microsoftonline.us", "chinacloudapi.cn", "partner.microsoftonline.cn", "windows.net")
_PRIVATE = ("AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PASSWORD", "AZURE_PASSWORD", "IDENTITY_HEADER")
_log = logging.getLogger(__name__)


def installed() -> bool:
    """Whether the extra `entra` is there."""
    return find_spec("azure") is not None and find_spec("azure.identity") is not None


def scope_for(host: str) -> str:
    """The scope of the cloud that a resource's host name belongs to."""
    return _cloud(host)[1]


def _cloud(host: str) -> tuple[str, str]:
    return next((cloud for end, cloud in _CLOUDS.items() if host.endswith(end)), ("", SCOPE))


def credential(
    host: str, env: Mapping[str, str], *, scope: str | None = None, client_id: str | None = None
) -> Credential:
    """Tokens for the resource at `host`. `client_id` names a user-assigned managed identity, or a workload's.

    Raises MissingExtra without azure-identity; it is imported when the first token is asked for.
    """
    if not installed():
        raise MissingExtra("Microsoft Entra ID needs an extra that is not installed", hint="pip install '.[entra]'")
    options: dict[str, Any] = {"connection_timeout": 10, "read_timeout": 20}
    if client_id:
        options["managed_identity_client_id"] = client_id
    authority = env.get("AZURE_AUTHORITY_HOST") or _cloud(host)[0]
    if authority:
        options["authority"] = authority
        where = urlsplit(authority if "//" in authority else f"//{authority}").hostname or ""
        # Only Microsoft's own authorities can be looked up at Microsoft.
        options["disable_instance_discovery"] = not where.endswith(_KNOWN)
    wanted = scope or scope_for(host)
    private = [Secret(env[name]) for name in _PRIVATE if env.get(name)]
    fetch = _Identity(wanted, options, private).fetch
    origin = f"Microsoft Entra ID ({wanted})"
    return Credential(None, bearer=True, origin=origin, fetch=fetch, private=private, entra=True)


class _Identity:
    """azure-identity's chain of credentials, made when it is first asked."""

    def __init__(self, scope: str, options: dict[str, Any], private: list[Secret]) -> None:
        self._scope, self._options, self._private = scope, options, private
        self._made: Any = None

    async def fetch(self, refused: bool) -> Fetched:
        try:
            return await aside(partial(self._ask, refused), TIMEOUT_S)
        except TimeoutError:
            raise Unavailable(f"Microsoft Entra ID gave no token within {TIMEOUT_S:.0f} s") from None

    def _ask(self, refused: bool) -> Fetched:
        for logger in map(logging.getLogger, ("azure", "msal")):
            if not logger.handlers:  # its warnings tell at length what our one sentence tells
                logger.addHandler(logging.NullHandler())
        from azure.core.exceptions import AzureError, ClientAuthenticationError
        from azure.identity import DefaultAzureCredential

        if refused and self._made is not None:  # its cache holds the token that was refused
            self._made.close()
            self._made = None
        try:
            if self._made is None:
                self._made = DefaultAzureCredential(**self._options)
            token = self._made.get_token_info(self._scope)
        except (AzureError, ValueError) as error:
            text = hidden(str(error), self._private)
            _log.debug("%s", text)
            words = f"Microsoft Entra ID gave no token: {_reason(text)}"
            if not isinstance(error, (ClientAuthenticationError, ValueError)):
                raise Unavailable(words) from None
            raise CredentialError(words, hint=WAYS) from None
        end = float(token.expires_on)
        return Fetched(Secret(token.token), float(token.refresh_on or end - EARLY_S), end)


def _reason(text: str) -> str:
    """What azure-identity says in a paragraph for each credential it tried, in a sentence."""
    lines = [line.strip() for line in text.splitlines() if line.startswith("\t")]
    if not lines:
        return visible(" ".join(text.split()), 400)
    tried = ", ".join(line.partition(":")[0] for line in lines)
    return visible(f"tried {tried}; the last said: {lines[-1].partition(':')[2].strip()}", 600)
