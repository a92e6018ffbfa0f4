"""What became of a request whose answer was lost, decided: borders, orders and words."""

from __future__ import annotations
