"""raysft predict"""

from __future__ import annotations

from pathlib import Path

import click

from raysft.cli.options import json_option, set_option


@click.command("predict")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("files", nargs=-1)
@click.option("--text", "texts", multiple=True, help="A text to label, or to answer. Repeatable.")
@click.option("--column", help="Column with the text; default: as in the job file, else `text`.")
@click.option(
    "--format", help="What the files are: csv, jsonl, lines (one text a line), ...; default: as data.format in the job."
)
@click.option("--encoding", help="Of text files, such as cp1252; default: as data.encoding in the job.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the predictions as .csv or .jsonl.")
@set_option
@json_option
def command(
    model: Path,
    files: tuple[str, ...],
    texts: tuple[str, ...],
    column: str | None,
    format: str | None,
    encoding: str | None,
    output: Path | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Label texts or FILES with MODEL: the job file of a finished run, its folder, or any classifier folder.

    A model that learnt answers answers them: rows are prompts, or conversations as messages, whose last answer, where
    there is one, is written anew. The answer stands in `label`.

    A row that cannot be used gets an error instead of a label. Predictions for --output are written as they are made.

    \b
    Examples:
      raysft predict jobs/quickstart.yaml --text "where is my parcel?"
      raysft predict results/runs/quickstart/model new.csv --column message --output labelled.csv
    """
    from raysft.cli.console import Watch, print_json, stdout
    from raysft.cli.tables import prediction_table
    from raysft.pipeline import predict
    from raysft.prediction.files import to_json

    with Watch() as watch:
        found = predict(model, files, texts, output, column, overrides, format, encoding, watch)
    if as_json:
        print_json(to_json(found))
    elif output:
        stdout().print(f"wrote {found.predicted} predictions to {output}", soft_wrap=True, highlight=False)
    else:
        stdout().print(prediction_table([each for each in found if not each.error]))
