"""What a person writes: the job file, its sections and its problems."""

from raysft.config.cluster import ClusterConfig
from raysft.config.load import Cluster, Job, load_cluster, load_job
from raysft.config.sections import JobConfig

__all__ = ["Cluster", "ClusterConfig", "Job", "JobConfig", "load_cluster", "load_job"]
