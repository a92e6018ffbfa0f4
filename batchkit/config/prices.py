"""What tokens cost, by a price file of the user's own, with its date: prices change, and no program knows a contract.

```toml
date = 2026-11-01
currency = "USD"
[models."gpt-4o"]        # a deployment or a model; the longest name that one begins with counts
input = 1.25             # for a million tokens, at the batch price
output = 5.00
model = "gpt-4o"         # for counting tokens, where the name does not tell; may be left away
```
"""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from types import NoneType
from typing import Any

from batchkit.disk import reading
from batchkit.errors import ConfigError
from batchkit.given import expect
from batchkit.model import Cost, Tokens

MILLION = 1_000_000
_SHAPE = 'it has date, currency and tables [models."NAME"] with input and output, for a million tokens'


@dataclass(frozen=True, slots=True)
class Price:
    """Money for a million tokens in and out."""

    input: float
    output: float
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Prices:
    """A price file: `models` are beginnings of names of deployments or models."""

    date: date
    currency: str
    models: Mapping[str, Price]

    def of(self, *names: str) -> Price | None:
        """The price of the first of these names that has one."""
        for name in names:
            fitting = [known for known in self.models if name.startswith(known)]
            if fitting:
                return self.models[max(fitting, key=len)]
        return None

    def cost(self, tokens: Tokens, deployment: str) -> Cost:
        """What these tokens cost at most. Raises ConfigError for a deployment without a price."""
        price = self.of(deployment)
        if price is None:
            raise self.lacking(deployment)
        return Cost(
            input=round(tokens.input * price.input / MILLION, 6),
            output_most=None if tokens.unbounded else round(tokens.output_most * price.output / MILLION, 6),
            currency=self.currency,
            prices_of=self.date.isoformat(),
        )

    def lacking(self, deployment: str) -> ConfigError:
        """That a deployment has no price."""
        words = f"the price file has no price for {deployment!r}"
        return ConfigError(words, hint=f'add [models."{deployment}"]')


def prices_in(given: Prices | str | os.PathLike[str] | None) -> Prices | None:
    """The prices that a caller gives, by the path of their file. Raises as `read_prices`, and InputError for another
    kind of thing."""
    kinds = (Prices, str, os.PathLike, NoneType)
    expect("prices", given, kinds, "the path of a price file", hint="such as prices='prices.toml'")
    return given if given is None or isinstance(given, Prices) else read_prices(Path(given))


def read_prices(path: Path) -> Prices:
    """Raises ConfigError that says what is wrong with the file, LocalError where it cannot be read."""
    with reading(path):
        data = path.read_bytes()
    try:
        document: dict[str, Any] = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None
    models, dated, currency = (document.get(key) for key in ("models", "date", "currency"))
    if not isinstance(dated, date) or isinstance(dated, datetime):
        raise ConfigError(f"{path} has no date of its prices", hint="date = 2026-11-01, without quotes")
    if not isinstance(currency, str) or not isinstance(models, dict) or not models:
        raise ConfigError(f"{path} lacks currency or models", hint=_SHAPE)
    return Prices(dated, currency, {name: _price(path, name, table) for name, table in models.items()})


def _price(path: Path, name: str, table: Any) -> Price:
    found = [table.get(key) if isinstance(table, dict) else None for key in ("input", "output")]
    if any(
        isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf for value in found
    ):
        raise ConfigError(f"{path}: model {name!r} needs input and output, numbers for a million tokens", hint=_SHAPE)
    model = table.get("model")
    return Price(float(found[0] or 0), float(found[1] or 0), model if isinstance(model, str) else None)
