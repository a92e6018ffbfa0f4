"""Parameters that take a default as it is: to have Typer judge it loads pydantic, which costs a third of the start. And
that say in help what a reader needs: no type behind a switch or an argument, a default in one pair of brackets."""

from __future__ import annotations

import re
from typing import Any

from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

_TYPE = re.compile(r"list\[(\w+)\]| range")
"""What a type is called besides its name: that a flag is repeatable is said in its help."""


class LightCommand(TyperCommand):
    """A command whose parameters are light."""

    def get_params(self, ctx: Any) -> list[Any]:
        return lightened(super().get_params(ctx))


class LightGroup(TyperGroup):
    """A group of commands whose parameters are light."""

    def get_params(self, ctx: Any) -> list[Any]:
        return lightened(super().get_params(ctx))


class _Option(TyperOption):
    def process_value(self, ctx: Any, value: Any) -> Any:
        return _default(self, ctx, value) if _is_default(self, value) else super().process_value(ctx, value)

    def display_type_rich(self, ctx: Any) -> str | None:
        return None if self.is_flag else _TYPE.sub(r"\1", super().display_type_rich(ctx) or "")

    def _get_number_range_help_str(self) -> str | None:
        """Bounds that nobody meets are not worth the width: who does is told them."""
        return None

    def _get_default_string(self, **given: Any) -> str:
        return self.show_default if isinstance(self.show_default, str) else super()._get_default_string(**given)


class _Argument(TyperArgument):
    def process_value(self, ctx: Any, value: Any) -> Any:
        return _default(self, ctx, value) if _is_default(self, value) else super().process_value(ctx, value)

    def display_type_rich(self, ctx: Any) -> str | None:  # noqa: ARG002
        return None

    def _usage_display_name(self) -> str:
        name = (self.metavar or str(self.name)).strip("[]")
        return name if self.required else f"[{name}]"


def lightened(parameters: list[Any]) -> list[Any]:
    """The same parameters, made light."""
    for parameter in parameters:
        for heavy, light in ((TyperOption, _Option), (TyperArgument, _Argument)):
            if type(parameter) is heavy:
                parameter.__class__ = light
    return parameters


def _is_default(parameter: Any, value: Any) -> bool:
    return not parameter.required and (value is None or value is parameter.default)


def _default(parameter: Any, ctx: Any, value: Any) -> Any:
    return value if parameter.callback is None else parameter.callback(ctx, parameter, value)
