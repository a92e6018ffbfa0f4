"""Parameters that take a default as it is: to have Typer judge it loads pydantic, which costs a third of the start."""

from __future__ import annotations

from typing import Any

from typer.core import TyperArgument, TyperCommand, TyperOption


class LightCommand(TyperCommand):
    """A command whose parameters are light."""

    def get_params(self, ctx: Any) -> list[Any]:
        return lightened(super().get_params(ctx))


class _Option(TyperOption):
    def process_value(self, ctx: Any, value: Any) -> Any:
        return _default(self, ctx, value) if _is_default(self, value) else super().process_value(ctx, value)


class _Argument(TyperArgument):
    def process_value(self, ctx: Any, value: Any) -> Any:
        return _default(self, ctx, value) if _is_default(self, value) else super().process_value(ctx, value)


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
