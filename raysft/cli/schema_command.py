"""raysft schema"""

from __future__ import annotations

import click


@click.command("schema")
@click.option("--markdown", is_flag=True, help="The reference page instead, as Markdown.")
def command(markdown: bool) -> None:
    """Print the JSON schema of the job file, for editors and other programs.

    \b
    Example:
      raysft schema > raysft.schema.json
    """
    from raysft.cli.console import print_json
    from raysft.config import reference

    if markdown:
        click.echo(reference.markdown(), nl=False)
    else:
        print_json(reference.json_schema())
