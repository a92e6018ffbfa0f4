"""What request lines will cost, by a price file of the user's own, with its date: prices change, ours would be wrong.

```toml
date = 2026-11-01
currency = "USD"
[deployments.gpt-4o-batch]
model = "gpt-4o"         # for counting tokens, where the name does not tell
input = 1.25             # for a million tokens, at the batch price
output = 5.00
```
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from batchkit.disk import reading
from batchkit.errors import ConfigError
from batchkit.model import Cost, Tokens

_MILLION = 1_000_000


@dataclass(frozen=True)
class Rate:
    """What a million tokens of one deployment cost."""

    input: float
    output: float
    model: str | None = None


@dataclass(frozen=True)
class Prices:
    """A price file."""

    date: date
    currency: str
    rates: Mapping[str, Rate]

    def cost(self, tokens: Tokens, deployment: str) -> Cost:
        """What these tokens cost at most. Raises ConfigError for a deployment without a price."""
        if deployment not in self.rates:
            raise ConfigError(
                f"the price file has no deployment {deployment!r}", hint=f"add [deployments.{deployment}]"
            )
        rate = self.rates[deployment]
        return Cost(
            input=round(tokens.input * rate.input / _MILLION, 6),
            output_most=None if tokens.unbounded else round(tokens.output_most * rate.output / _MILLION, 6),
            currency=self.currency,
            prices_of=self.date.isoformat(),
        )


def load_prices(path: Path) -> Prices:
    """Raises ConfigError for a file that is not as described above."""
    with reading(path):
        data = path.read_bytes()
    try:
        document = tomllib.loads(data.decode())
        dated = document["date"]
        rates = {name: _rate(table, f"{path}, {name}") for name, table in document["deployments"].items()}
        if not isinstance(dated, date):
            raise ConfigError(f"{path}: date is no date", hint="date = 2026-11-01, without quotes")
        return Prices(dated, str(document["currency"]), rates)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None
    except (KeyError, AttributeError) as error:
        words = f"{path} lacks {error}" if isinstance(error, KeyError) else f"{path}: deployments is no table"
        raise ConfigError(words, hint="it has date, currency and [deployments.NAME] with input and output") from None


def _rate(table: Any, where: str) -> Rate:
    if not isinstance(table, dict):
        raise ConfigError(f"{where} is no table")
    for key in ("input", "output"):
        value = table.get(key)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or value < 0:
            raise ConfigError(f"{where}: {key} is no price", hint="a number: the price of a million tokens")
    return Rate(table["input"], table["output"], table.get("model"))
