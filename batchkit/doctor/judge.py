"""What the things that were looked at mean for a job, in a sentence with what to do next. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from shlex import quote
from urllib.parse import urlsplit

from batchkit.config import Target
from batchkit.config.facts import Facts, Feature
from batchkit.errors import BatchkitError, NotFound, Redirected, Unauthorized
from batchkit.model import Batch, Finding, Job, Queue, RemoteFile, State
from batchkit.text import duration, plural
from batchkit.uploader.quota import PATIENCE, WAITING

USER, CONTRIBUTOR = "Cognitive Services OpenAI User", "Cognitive Services OpenAI Contributor"
"""The two roles that batches may need: Microsoft's pages name one or the other, and do not settle which."""
CROWDED = 0.8
"""The share of files from which their number is worth a word."""
SKEW_S, WRONG_S = 60.0, 300.0
"""From here on a clock is worth a word; from there on it is a problem, since tokens are refused."""
BYTES_PER_TOKEN = 4


def problem(what: str, error: BatchkitError) -> Finding:
    """An error as a finding."""
    return Finding(what, "problem", str(error), error.hint, error.exit)


def endpoint(target: Target) -> Finding:
    """Whether the address has the shape that batches need (Azure's guide: `https://NAME.openai.azure.com`)."""
    host = urlsplit(target.base_url).hostname or ""
    words = f"{target.base_url} ({target.dialect})"
    if target.local:
        return Finding("endpoint", "ok", f"{words}, a service on this machine")
    if not target.azure:
        return Finding("endpoint", "ok", words)
    if host.endswith((".api.cognitive.microsoft.com", ".api.cognitive.azure.com")):
        words = f"{host} is the region's address, as the Azure CLI makes resources; batches need a custom subdomain"
        hint = (
            "az cognitiveservices account update --name NAME --resource-group GROUP --custom-domain NAME, "
            "then the endpoint is https://NAME.openai.azure.com"
        )
        return Finding("endpoint", "problem", words, hint, 4)
    if host.endswith(".services.ai.azure.com") and target.dialect == "dated":
        words = f"{host} is documented for v1 only, not for the dated API"
        return Finding(
            "endpoint", "warning", words, "use https://NAME.openai.azure.com, or leave api-version away for v1"
        )
    if host.endswith(".cognitiveservices.azure.com"):
        name = host.partition(".")[0]
        hint = f"if batches are not found there, use https://{name}.openai.azure.com"
        return Finding("endpoint", "warning", f"{host} is not the address that Azure's guide gives for batches", hint)
    if not host.endswith((".openai.azure.com", ".services.ai.azure.com")):
        words += ": not an address of Azure's own, so a gateway, a proxy, or a slip"
        return Finding("endpoint", "warning", words, "Azure's own is https://NAME.openai.azure.com")
    return Finding("endpoint", "ok", words)


def refused(error: BatchkitError, target: Target) -> Finding:
    """Why the service did not answer a first question."""
    if isinstance(error, Unauthorized):
        if error.status_code == 403:
            hint = f"give the identity the role '{USER}' on the resource, or '{CONTRIBUTOR}' if uploads are refused; "
            hint += "also look whether the resource's firewall lets this machine in"
        else:
            hint = "check the key, and that it belongs to this endpoint; with Entra ID check tenant and scope, and the "
            hint += f"role: '{USER}', or '{CONTRIBUTOR}' if uploads are refused"
        return Finding("credential", "problem", f"not accepted (HTTP {error.status_code}): {error}", hint, error.exit)
    if isinstance(error, NotFound):
        hint = "check the resource's name"
        if target.dialect == "dated":
            hint += f"; batches need api-version {BATCHES_SINCE} or later, or leave it away for v1"
        elif target.dialect == "openai":
            hint += "; an OpenAI base URL ends in /v1"
        return Finding("service", "problem", f"there are no batches at {target.base_url}: {error}", hint, error.exit)
    return problem("endpoint" if isinstance(error, Redirected) else "service", error)


BATCHES_SINCE = "2024-07-01-preview"


def version(target: Target, facts: Facts) -> Finding | None:
    """Whether the api-version has what is asked of it; None where there are no versions."""
    if not target.azure:
        return None

    def lacks(name: str) -> Feature | None:
        feature = facts.features[name]
        return None if feature.known(target.dialect, target.api_version) else feature

    shown = target.api_version or "v1"
    newest = max(feature.since for feature in facts.features.values()) + "-preview"
    hint = f"export OPENAI_API_VERSION={newest} (api_version in the targets file), or leave it away for v1"
    model = facts.model_of(target.deployment or "")
    if feature := lacks("batches"):
        words = f"{shown} has no batches; they came with {feature.since}-preview"
        return Finding("api-version", "problem", words, hint, 4)
    missing = []
    if target.expires_s and (feature := lacks("file_expiry")):
        most = facts.number("files_lasting")
        missing.append(f"lets no input file expire, so that only {most} fit (from {feature.since}-preview on they do)")
    elif target.expires_s and (feature := lacks("output_expiry")):
        missing.append(f"lets no output file expire (from {feature.since}-preview on they do)")
    if model and facts.models[model].newer and (feature := lacks("newer_models")):
        missing.append(f"may not serve {model} (as of {facts.dated(feature)})")
    if missing:
        return Finding("api-version", "warning", f"{shown} {'; and '.join(missing)}", hint)
    asked = "batches" + (", files that expire" if target.expires_s else "")
    whole = "" if target.filters else "; it cannot filter lists of batches, which are read whole"
    return Finding("api-version", "ok", f"{shown} has what is asked of it: {asked}{whole}")


_CODES = {
    "model_not_found": "there is no deployment of this name at the resource",
    "invalid_request": "it is not of type Global Batch or Data Zone Batch, or the line was refused",
}


def deployment(target: Target, jobs: Iterable[Job], facts: Facts) -> Finding:
    """What our own batches say about the deployment: the API has no call that tells whether it can run them."""
    name = target.deployment
    if name is None:
        return Finding("deployment", "ok", "the target names none; commands take it with -d")
    model = facts.model_of(name)
    unlisted = ""
    if target.azure and model and not facts.offered(model):
        unlisted = f"; {model} is not listed for batches as of {facts.dated(*facts.offers.values())}"
    seen = [
        (batch, job)
        for job in jobs
        for part in job.parts
        if part.service == target.service and part.deployment == name
        for batch in part.batches
    ]
    for batch, job in sorted(seen, key=lambda pair: pair[0].created_at or 0.0, reverse=True):
        if trouble := refusal(batch):
            return Finding("deployment", "problem", f"{name}: {trouble} (job {job.name!r})", MAKE, 5)
        if batch.status in _ACCEPTED or (batch.status == "cancelled" and job.name.startswith(PROBE)):
            return Finding("deployment", "ok", f"{name} runs batches, as job {job.name!r} showed")
    words = f"whether {name} exists and has a batch type shows only when a batch is made{unlisted}"
    return Finding("deployment", "warning", words, "batchkit doctor --probe makes one of one short request")


MAKE = "make a deployment of type Global-Batch or Data Zone Batch, and name it with -d or in the targets file"


PROBE = "probe-of-"
"""How the names of probes begin; one is cancelled once the service has taken its batch."""
_ACCEPTED = frozenset({"in_progress", "finalizing", "completed", "expired"})


def refusal(batch: Batch) -> str | None:
    """What is wrong with the deployment, by a batch that failed for it."""
    if batch.status != "failed":
        return None
    return next((f"{_CODES[e.code]} ({e.code}: {e.message})" for e in batch.errors if e.code in _CODES), None)


def files(target: Target, found: Sequence[RemoteFile], facts: Facts) -> Finding:
    """How near the resource is to its caps on input files."""
    lasting = sum(file.expires_at is None for file in found)
    words = f"{plural(len(found), 'input file')}, {lasting} without expiry"
    if not target.azure:
        return Finding("files", "ok", words)
    caps = [(lasting, facts.number("files_lasting"), " without expiry")]
    caps.append((len(found) - lasting, facts.number("files_expiring"), " with expiry"))
    if target.limits.files is not None:
        caps = [(len(found), target.limits.files, "")]
    for count, most, kind in caps:
        if count >= CROWDED * most:
            words = f"{count} of {most} input files{kind} that the resource may hold"
            hint = "batchkit files --sweep deletes ours that nobody needs; others' must be deleted by whoever made them"
            full = count >= most
            return Finding("files", "problem" if full else "warning", words, hint, 6 if full else 0)
    room = target.max_files
    return Finding("files", "ok", f"{words}; the resource may hold {room:,} of those we make" if room else words)


def quota(target: Target, queue: Queue, facts: Facts, now: float) -> Finding | None:
    """How full the deployment's queue is with what is ours; None without a deployment."""
    if target.deployment is None:
        return None
    ours = f"about {queue.bytes // BYTES_PER_TOKEN:,} tokens of ours are enqueued"
    limits = [(target.limits.enqueued_tokens, "by the target"), (queue.tokens, "as the service last said")]
    known = min(((limit, how) for limit, how in limits if limit), default=None)
    if queue.next_try_at is not None and queue.next_try_at > now:
        return _left_alone(target, ours, queue.why or WAITING, queue.next_try_at, now)
    if known:
        return Finding("quota", "ok", f"{ours}, of a limit of {known[0]:,} {known[1]}")
    words = f"{ours}; the limit is not known yet: the service may name it when a batch is made"
    model = facts.model_of(target.deployment)
    hint = f"batchkit limits {model}" if model and target.azure else ""
    return Finding("quota", "ok", words, hint)


def _left_alone(target: Target, ours: str, why: str, until: float, now: float) -> Finding:
    """Why a deployment's queue is not tried now: it is full, the service asked for patience, or the target is set aside
    for what went wrong there."""
    when = f"in {duration(until - now)}, at {datetime.fromtimestamp(until, UTC):%Y-%m-%d %H:%M} UTC"
    if why.startswith((WAITING, PATIENCE)):
        full = "the queue is full, and" if why.startswith(WAITING) else "nothing is sent now, and it is"
        return Finding("quota", "warning", f"{ours}; {full} tried again {when}: {why}", "wait for it")
    words = f"{ours}; the target is set aside, and has its next turn {when}: {why}"
    hint = f"parts go to the other targets until then; batchkit targets test {quote(target.name)} asks it now"
    return Finding("quota", "warning", words, hint)


def clock(date: str | None, now: float) -> Finding | None:
    """How far this machine's clock is off the service's; None where that did not say."""
    try:
        skew = now - parsedate_to_datetime(date or "").timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
    if abs(skew) < SKEW_S:
        return Finding("clock", "ok", "agrees with the service's to the minute")
    there = datetime.fromtimestamp(now - skew, UTC).strftime("%Y-%m-%d %H:%M:%S")
    words = (
        f"this machine's clock is {duration(abs(skew))} {'ahead' if skew > 0 else 'behind'}: there it is {there} UTC"
    )
    wrong = abs(skew) >= WRONG_S
    hint = "set the clock, or let a time server do it: timedatectl set-ntp true"
    return Finding("clock", "problem" if wrong else "warning", words, hint, 12 if wrong else 0)


def jobs(found: Sequence[Job]) -> list[Finding]:
    """What hangs in the ledger."""
    intents = (State.UPLOADING, State.SUBMITTING)
    unsure = sorted({job.name for job in found for part in job.parts if part.state in intents})
    held = [(job, part) for job in found if job.settled_at is None for part in job.parts if part.held]
    findings = []
    if unsure:
        words = f"a request of {', '.join(unsure)} was announced, and its answer never written down"
        hint = "run the job's command again, or batchkit run --once: batchkit looks before it acts"
        findings.append(Finding("ledger", "warning", words, hint))
    if held and not unsure:
        job, part = held[0]
        words = f"{plural(len(held), 'part')} held, such as part {part.number} of {job.name!r}: {part.held}"
        findings.append(Finding("ledger", "warning", words, f"batchkit show {quote(job.name)} --events"))
    return findings
