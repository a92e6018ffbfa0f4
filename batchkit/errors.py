"""Every exception batchkit raises, grouped by what the reader can do next.

    BatchkitError     1   a bug in batchkit
    ├─ UsageError     2   what you typed
    ├─ UnknownJob     2   the name you gave
    ├─ InputError     3   your data             JobConflict
    ├─ ConfigError    4   your settings         CredentialError · UnsafeEndpoint · Redirected · MissingExtra
    ├─ Refused        5   the service said no   Unauthorized · NotFound · BatchFailed
    ├─ Unavailable    6   try later             Throttled · QuotaFull · Unintelligible
    ├─ Unfinished     7   still running         (asked for results before there are any)
    ├─ RowsFailed     8   finished, some rows failed
    ├─ LedgerError   12   look at the ledger    LedgerCorrupt
    │  ├─ …           4   its setting           LedgerRefused · LedgerTooNew · LedgerTooOld · NetworkDisk
    │  ├─ …           6   try later             LedgerUnreachable
    │  └─ LedgerBusy  9   wait                  LeaseLost · CancelWished (7)
    ├─ ResultError   10   look at the report
    ├─ Uncertain     11   wait, then look
    ├─ LocalError    12   this machine          DiskFull
    └─ Interrupted  130   stopped by a signal, state saved

Each class carries `code` (a stable slug), `exit` (the command line's exit code) and `hint` (what to do or type next);
a traceback shows the hint with the Client's calls in place of commands. Messages are safe to log: no key, no prompt, no
control characters from the service.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from batchkit.hints import in_python

if TYPE_CHECKING:
    from batchkit.model import Job, Problem


class BatchkitError(Exception):
    """Something went wrong inside batchkit."""

    code: ClassVar[str] = "batchkit.bug"
    exit: int = 1
    hint: str = "the same command with -v shows where; please report it"
    done: tuple[Job, ...] = ()
    """The jobs that had their turn all the same, where `run_due` raises this."""
    also: tuple[BatchkitError, ...] = ()
    """The lesser troubles of other jobs, where `run_due` raises this, or `run --once --json` prints it."""

    def __init__(self, message: str | None = None, *, hint: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip().splitlines()[0])
        if hint is not None:
            self.hint = hint
        if self.hint:
            self.add_note(f"next: {in_python(self.hint)}")


class UsageError(BatchkitError):
    """The command was called the wrong way."""

    code = "usage"
    exit = 2
    hint = "the command's --help shows what it takes, with an example"


class UnknownJob(BatchkitError):
    """The ledger has no job of this name."""

    code = "ledger.unknown_job"
    exit = 2
    hint = "batchkit list"


class InputError(BatchkitError):
    """The input was refused before anything was sent."""

    code = "input.invalid"
    exit = 3
    hint = "mend the input and run the same command again: nothing was sent"

    def __init__(
        self, message: str | None = None, *, hint: str | None = None, problems: tuple[Problem, ...] = ()
    ) -> None:
        super().__init__(message, hint=hint)
        self.problems = problems


class JobConflict(InputError):
    """A job of this name exists with other content."""

    code = "input.job_conflict"
    hint = "choose another --name, or leave --name away to get one from the content"


class ConfigError(BatchkitError):
    """A setting is missing or wrong."""

    code = "config.invalid"
    exit = 4
    hint = "mend the setting; batchkit doctor looks at them all"


class CredentialError(ConfigError):
    """No usable key or token was found."""

    code = "config.credential"


class UnsafeEndpoint(ConfigError):
    """The endpoint is neither https nor on this machine."""

    code = "config.unsafe_endpoint"
    hint = "use https://; or http:// with 127.0.0.1 or localhost, or plain_http = true in the target"


class Redirected(ConfigError):
    """The service answered with a redirect, which is never followed since it would carry the key elsewhere."""

    code = "config.redirected"
    hint = "set the endpoint to the address the service really has"


class MissingExtra(ConfigError):
    """An optional part of batchkit is not installed."""

    code = "config.missing_extra"
    hint = "install the extra that is named"


class Refused(BatchkitError):
    """The service refused; sending the same again will not help."""

    code = "service.refused"
    exit = 5
    hint = "mend what the service names; nothing is lost, and the same command again goes on"

    def __init__(
        self,
        message: str | None = None,
        *,
        hint: str | None = None,
        status_code: int | None = None,
        service_code: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status_code = status_code
        self.service_code = service_code


class Unauthorized(Refused):
    """The service does not accept this key or token."""

    code = "service.unauthorized"
    hint = (
        "check the key and that it belongs to this endpoint; with Entra ID the identity needs the role "
        "'Cognitive Services OpenAI User' (uploads may need '… Contributor')"
    )


class NotFound(Refused):
    """The service does not know this address or id."""

    code = "service.not_found"


class BatchFailed(Refused):
    """The service refused a whole batch when it validated the input file."""

    code = "service.batch_failed"


class Unavailable(BatchkitError):
    """The service could not be reached, or kept failing."""

    code = "service.unavailable"
    exit = 6
    hint = "check endpoint and network; nothing is lost, and the same command again goes on"


class Throttled(Unavailable):
    """The service asks for patience."""

    code = "service.throttled"

    def __init__(self, message: str | None = None, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QuotaFull(Unavailable):
    """The deployment's enqueued-token quota, or the resource's file quota, is used up."""

    code = "service.quota_full"

    def __init__(self, message: str | None = None, *, tokens: int | None = None, files: bool = False) -> None:
        super().__init__(message)
        self.tokens, self.files = tokens, files


class Unintelligible(Unavailable):
    """The service answered with something that is not the API's JSON."""

    code = "service.unintelligible"
    hint = "check that the endpoint is the API's and not a portal, proxy or login page"


class Unfinished(BatchkitError):
    """The job has not finished yet."""

    code = "job.unfinished"
    exit = 7
    hint = "the same command again later"


class RowsFailed(BatchkitError):
    """The job finished, but some rows failed."""

    code = "results.rows_failed"
    exit = 8
    hint = "batchkit retry JOB asks again for those that may yet succeed"


class Interrupted(BatchkitError):
    """Stopped by a signal; everything is saved."""

    code = "job.interrupted"
    exit = 130
    hint = "the same command again goes on"


class LedgerError(BatchkitError):
    """The ledger cannot be used."""

    code = "ledger.error"
    exit = 12
    hint = "try again; if it stays, keep the ledger as it is and look at what is named"


class LedgerRefused(LedgerError):
    """The ledger is not what its address says, or does not let one in."""

    code = "ledger.refused"
    exit = 4
    hint = "mend --ledger or BATCHKIT_LEDGER, or what it names; batchkit doctor looks at them all"


class LedgerUnreachable(LedgerError):
    """The ledger cannot be reached now."""

    code = "ledger.unreachable"
    exit = 6
    hint = "check the address and the server; nothing is lost, and the same command again goes on"


class LedgerBusy(LedgerError):
    """Another process is working on this job."""

    code = "ledger.busy"
    exit = 9
    hint = "wait for it; batchkit list shows how far it is"


class CancelWished(LedgerBusy):
    """Another process is working on this job and was told to cancel it; or this one was, while it did."""

    code = "ledger.cancel_wished"
    exit = 7
    hint = "batchkit list shows when it is cancelled"


class LeaseLost(LedgerBusy):
    """The lease on this job was lost; another process may have taken it over."""

    code = "ledger.lease_lost"
    hint = "run the same command again"


class LedgerTooNew(LedgerError):
    """The ledger was written by a newer batchkit; it was left untouched."""

    code = "ledger.too_new"
    exit = 4
    hint = "use that newer version of batchkit"


class LedgerTooOld(LedgerError):
    """The ledger has a format from before the first release; it was left untouched."""

    code = "ledger.too_old"
    exit = 4
    hint = "let that one finish its jobs, then move the file (in PostgreSQL the schema) away"


class LedgerCorrupt(LedgerError):
    """The ledger file is damaged; it was left untouched."""

    code = "ledger.corrupt"
    hint = "keep the file, and restore it from a backup or point --ledger at another one"


class NetworkDisk(LedgerError):
    """The ledger would be on a network disk, where SQLite's WAL does not work."""

    code = "ledger.network_disk"
    exit = 4
    hint = "export BATCHKIT_LEDGER=postgresql://HOST/DATABASE, or a path on a disk of this machine"


class ResultError(BatchkitError):
    """The results do not add up to the rows that went in."""

    code = "results.mismatch"
    exit = 10
    hint = "batchkit show JOB --events says what came back"


class Uncertain(BatchkitError):
    """It is not known yet whether the service did what was asked."""

    code = "service.uncertain"
    exit = 11
    hint = "run the same command again: batchkit looks at the service before it acts"


class LocalError(BatchkitError):
    """This machine refused: a file could not be read or written."""

    code = "local.error"
    exit = 12
    hint = "nothing is lost: mend it and run the same command again"


class DiskFull(LocalError):
    """The disk is full."""

    code = "local.disk_full"
    hint = "free some space and run the same command again: it goes on where it stopped"
