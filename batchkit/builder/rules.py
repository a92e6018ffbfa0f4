"""The rules of a request line, and those that hold over all lines of a file: new ids, one url, one deployment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from batchkit.builder.findings import Blame, shown
from batchkit.builder.kinds import CONTENT, NOT_ON_AZURE, PARAMS, ROLES, misspelt, path_of
from batchkit.builder.strict import kind
from batchkit.model import URLS

if TYPE_CHECKING:
    from batchkit.config.facts import Facts

KEYS = ("custom_id", "method", "url", "body")
_PLACEHOLDER = re.compile(
    r"<.*>|\{.*\}|\[.*\]|replace[-_ ].*|your[-_ ].*|(model[-_ ])?(deployment|model)[-_ ]name|todo|changeme|xxx+",
    re.IGNORECASE,
)


class Ids:
    """The custom_ids seen so far, as 64-bit hashes: about 80 bytes each, however long they are.

    That two of five million different ids look alike has a chance of one in a million.
    """

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def add(self, custom_id: str) -> bool:
        """Whether the id is new."""
        return self.add_all([custom_id.encode("utf-8", "surrogatepass")])

    def add_all(self, names: list[bytes]) -> bool:
        """Whether these ids, as UTF-8, are all new; if not, none of them is taken."""
        keys = set(map(hash, names))
        if len(keys) < len(names) or not self.seen.isdisjoint(keys):
            return False
        self.seen |= keys
        return True


class Rules:
    """Judges request lines one after the other. `azure` adds what Azure alone does not take; `model` is the
    deployment's where its name does not tell, `facts` what is published of models (default: see `load_facts`)."""

    def __init__(self, *, azure: bool = False, model: str | None = None, facts: Facts | None = None) -> None:
        self._azure = azure
        self.url: str | None = None
        self.deployment: str | None = None
        self.ids = Ids()
        self._refused: dict[str, dict[str, str]] = {}
        """Parameters that this model refuses, with the facts to be told, less those that were told already."""
        self._model_is, self._facts = model, facts
        self._keys: set[str] = set()
        """Keys of bodies that were looked at already, whether they are known."""

    def judge(self, document: Mapping[str, Any], blame: Blame) -> None:
        """Blame a line for all that is wrong with it."""
        if missing := [key for key in KEYS if key not in document]:
            blame("keys_missing", keys=", ".join(missing))
        if unknown := [key for key in document if key not in KEYS]:
            blame("keys_unknown", keys=", ".join(map(shown, unknown)))
        self._custom_id(document, blame)
        if document.get("method", "POST") != "POST":
            blame("method", value=shown(document["method"]))
        if "url" in document:
            self._url(document["url"], blame)
        if "body" in document:
            self._body(document["body"], document.get("url"), blame)

    def _custom_id(self, document: Mapping[str, Any], blame: Blame) -> None:
        value = document.get("custom_id")
        if isinstance(value, str) and value:
            if not self.ids.add(value):
                blame("custom_id_twice", value=shown(value), custom_id=value)
        elif "custom_id" in document:
            blame("custom_id", value=shown(value))

    def _url(self, value: Any, blame: Blame) -> None:
        if not isinstance(value, str):
            blame("url_type", value=shown(value))
        elif path_of(value) not in URLS:
            blame("url_deployment" if "/deployments/" in value else "url_unknown", value=shown(value))
        elif self.url is None:
            self.url = value
            if self._azure and path_of(value) in NOT_ON_AZURE:
                blame("url_not_azure", value=shown(value))
        elif value != self.url:
            blame("url_differs", value=shown(value), first=shown(self.url))

    def _body(self, body: Any, url: Any, blame: Blame) -> None:
        if not isinstance(body, Mapping):
            blame("body_type", kind=kind(body))
            return
        self._model(body, url, blame)
        if body.get("stream"):
            blame("stream", value=shown(body["stream"]))
        if isinstance(url, str) and path_of(url) in CONTENT:
            _content(body, url, blame)
        for key in body:
            if key in PARAMS and body[key] is not None and not PARAMS[key].allows(body[key]):
                blame("param", key=key, value=shown(body[key]), wanted=PARAMS[key].wanted)
            if key not in self._keys:
                self._keys.add(key)
                if isinstance(url, str) and (meant := misspelt(url, key)):
                    blame("param_misspelt", key=shown(key)[1:-1], url=url, meant=meant)
            if key in self._refused and body[key] is not None:
                blame("param_refused", key=key, **self._refused[key])
                del self._refused[key]

    def _model(self, body: Mapping[str, Any], url: Any, blame: Blame) -> None:
        model = body.get("model")
        if model is None or model == "":
            blame("model_missing")
        elif not isinstance(model, str):
            blame("model_type", value=shown(model))
        elif _PLACEHOLDER.fullmatch(model.strip()):
            blame("model_placeholder", value=shown(model))
        elif self.deployment is None:
            self.deployment = model
            self._published(model, url, blame)
        elif model != self.deployment:
            blame("model_differs", value=shown(model), first=shown(self.deployment))

    def _published(self, deployment: str, url: Any, blame: Blame) -> None:
        """What is published of the model that a deployment's name speaks of; told once a file, since it holds for all
        lines alike."""
        from batchkit.config.facts import load_facts

        facts = self._facts or load_facts()
        model = facts.model_of(self._model_is or deployment)
        if model is None:
            return
        known, family = facts.models[model], facts.refusals(model)
        if known.urls and isinstance(url, str) and path_of(url) in URLS and path_of(url) not in known.urls:
            date = facts.dated(known)
            blame("url_refused", value=shown(url), model=model, urls=", ".join(known.urls), date=date)
        if self._azure and not facts.offered(model):
            date = facts.dated(*facts.offers.values())
            blame("model_not_offered", model=model, deployment=deployment, date=date)
        if family is not None:
            about = {"model": model, "family": known.family, "date": facts.dated(family)}
            for key in family.refuses:
                other = family.instead.get(key)
                self._refused[key] = about | {"instead": f"use {other}" if other else "leave it away"}


def _content(body: Mapping[str, Any], url: str, blame: Blame) -> None:
    """What the request is about stands where its url takes it from."""
    key = CONTENT[path_of(url)]
    value = body.get(key)
    if value is None:
        found = next((other for other in ("messages", "input", "prompt") if other != key and other in body), None)
        if found:
            blame("content_elsewhere", found=found, url=url, key=key)
        else:
            blame("content_missing", key=key)
    elif key == "messages":
        _messages(value, blame)
    elif not isinstance(value, (str, list)):
        blame("content_type", key=key, kind=kind(value), wanted="text or a list")
    elif not value:
        blame("content_missing", key=key)


def _messages(value: Any, blame: Blame) -> None:
    if not isinstance(value, list):
        blame("content_type", key="messages", kind=kind(value), wanted="a list of messages")
        return
    if not value:
        blame("content_missing", key="messages")
    for index, message in enumerate(value):
        if not isinstance(message, Mapping):
            blame("message", index=index, trouble=f"is a JSON {kind(message)}, not an object")
        elif message.get("role") not in ROLES:
            trouble = f"has the role {shown(message['role'])}" if "role" in message else "has no role"
            blame("message", index=index, trouble=trouble)
