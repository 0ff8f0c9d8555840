"""A command that names all missing options at once."""

from __future__ import annotations

import click


class NamesAllMissing(click.Command):
    """A click command; without this, it names only the first."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command's arguments.

        Raises:
            click.UsageError: arguments or options are missing; it names them all.
        """
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.MissingParameter as first:
            with self.make_context(ctx.info_name, given, resilient_parsing=True) as lenient:
                missing = [
                    parameter
                    for parameter in self.get_params(ctx)
                    if parameter.required and lenient.params.get(parameter.name or "") in (None, ())
                ]
            if len(missing) < 2:
                raise
            names = ", ".join(parameter.get_error_hint(ctx) for parameter in missing)
            raise click.UsageError(
                f"Missing {names}; {ctx.command_path} --help explains them", ctx
            ) from first
