"""What a person writes: the job file, its sections and its problems."""

from raysft.config.load import Job, load_job
from raysft.config.sections import JobConfig

__all__ = ["Job", "JobConfig", "load_job"]
