"""How long to wait for enqueued-token or file quota. Pure."""

from __future__ import annotations

from batchkit.config import Settings


def wait_s(tries: int, settings: Settings) -> float:
    """Seconds to wait after the `tries`-th refusal: doubling, with a cap, for as long as it takes."""
    return float(min(settings.quota_wait_cap_s, settings.quota_wait_s * 2.0 ** min(tries - 1, 20)))
