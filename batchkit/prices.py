"""What tokens cost, by a price file that the user keeps: prices change, and no program knows a contract.

date = "2025-11-01"
currency = "USD"
[models."gpt-4o"]     # a deployment or a model, the longest name that a model begins with counts
input = 1.25          # for a million tokens, batch prices
output = 5.00
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchkit.disk import reading
from batchkit.errors import InputError

MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """Money for a million tokens in and out."""

    input: float
    output: float


@dataclass(frozen=True, slots=True)
class Prices:
    """A price file: `models` are names of deployments or models."""

    date: str
    currency: str
    models: Mapping[str, Price]

    def of(self, *names: str) -> Price | None:
        """The price of the first of these names that has one."""
        for name in names:
            fitting = [known for known in self.models if name.startswith(known)]
            if fitting:
                return self.models[max(fitting, key=len)]
        return None


def read_prices(path: Path) -> Prices:
    """Raises InputError that says what is wrong with the file."""
    with reading(path):
        text = path.read_bytes()
    try:
        document: dict[str, Any] = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid TOML: {error}") from None
    models = document.get("models")
    if not isinstance(models, dict) or not models:
        raise InputError(
            f"{path} has no table of models", hint='[models."gpt-4o"] with input and output, for a million'
        )
    prices = {name: _price(path, name, table) for name, table in models.items()}
    return Prices(str(document.get("date", "undated")), str(document.get("currency", "USD")), prices)


def _price(path: Path, name: str, table: Any) -> Price:
    found = [table.get(key) if isinstance(table, dict) else None for key in ("input", "output")]
    if any(isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0 for value in found):
        raise InputError(f"{path}: model {name!r} needs input and output, numbers for a million tokens")
    return Price(float(found[0] or 0), float(found[1] or 0))
