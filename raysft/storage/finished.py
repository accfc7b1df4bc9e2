"""The model of a finished run, found by the run's folder or by its job file: what another run may start from."""

from __future__ import annotations

from pathlib import Path

from raysft.config import load_job
from raysft.errors import NotFound
from raysft.storage.layout import Output, RunFolder, home_path


def finished_model(path: Path) -> Path | None:
    """The model folder of the run that `path` names; None when it is neither a run's folder nor a job file.

    The run of a job file is looked for where its `output` says: an absolute folder, or one relative to where the
    command is typed or to the job file. Raises NotFound when the run has not finished, JobFileError for a bad job file.
    """
    if path.suffix in {".yaml", ".yml"} and path.is_file():
        runs = _runs_of(path)
        found = next((run for run in runs if run.result.exists()), None)
        if found is None:
            raise NotFound(
                f"model.base: the run of {path} is not finished (looked in {', '.join(str(run.path) for run in runs)})",
                f"Run `raysft train {path}` first, or name a model folder.",
            )
        return found.model
    run = RunFolder(path)
    if not (run.job.is_file() and run.identity.is_file()):
        return None
    if not run.result.exists():
        raise NotFound(f"model.base: the run in {path} is not finished", "Finish it with `raysft train` first.")
    return run.model


def _runs_of(job_file: Path) -> list[RunFolder]:
    job = load_job(job_file)
    output = home_path(job.config.output)
    roots = dict.fromkeys([output.absolute(), (job.folder / output).absolute()])
    return [Output(root).run(job.config.name) for root in roots]
