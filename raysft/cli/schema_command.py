"""raysft schema"""

from __future__ import annotations

import click


@click.command("schema")
@click.option("--markdown", is_flag=True, help="The reference page of both instead, as Markdown.")
@click.option("--cluster", is_flag=True, help="Of the cluster file instead.")
def command(markdown: bool, cluster: bool) -> None:
    """Print the JSON schema of the job file, for editors and other programs.

    \b
    Example:
      raysft schema > raysft.schema.json
    """
    from raysft.cli.console import print_json
    from raysft.config import ClusterConfig, JobConfig, reference

    if markdown:
        click.echo(reference.markdown(), nl=False)
    else:
        print_json(reference.json_schema(ClusterConfig if cluster else JobConfig))
