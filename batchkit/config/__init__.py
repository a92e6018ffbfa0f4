"""What a service is, where it is, who may ask it and what is known of it: targets, credentials, settings, facts."""

from batchkit.config.target import (
    LOCAL_POLL_S,
    LOOPBACK,
    MIN_POLL_S,
    Dialect,
    Limits,
    Settings,
    Target,
    Webhook,
    config_file,
    data_home,
    make_target,
)

__all__ = [
    "LOCAL_POLL_S",
    "LOOPBACK",
    "MIN_POLL_S",
    "Dialect",
    "Limits",
    "Settings",
    "Target",
    "Webhook",
    "config_file",
    "data_home",
    "make_target",
]
