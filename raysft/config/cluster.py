"""The cluster file: where jobs run, in a page. One section says what kind of cluster it is."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from raysft.config.section import PlainSection
from raysft.config.values import parse_name

LABEL = r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"  # a name that Ray's labels, clouds and Kubernetes all take
KINDS = ("local", "static", "slurm", "aws", "gcp", "azure", "kubernetes")
CLOUDS = ("aws", "gcp", "azure")
ANYWHERE = {"0.0.0.0/0", "::/0"}
Cidr = Annotated[str, Field(pattern=r"^\d{1,3}(\.\d{1,3}){3}/\d{1,2}$")]
# What no shell, no unit of systemd and no mount option of Docker takes for anything but a part of a path.
FOLDER = r"^/[\w ._@%+=~/-]*$"
IMAGE = r"^[A-Za-z0-9][A-Za-z0-9._/:@-]*$"  # Ray hands it to a shell as it is
WORD = r"^[A-Za-z0-9][\w.@+-]*$"  # a name as clouds give it; nothing that Terraform or ARM would take for a formula
RESOURCE = r"^/subscriptions(/[\w.()-]+)+$"  # id of a resource of Azure
SHARE = r"^[\w.-]+:/[\w./-]*$"  # HOST:/PATH
FILE = r"^(/|~/)."  # the same whatever folder a command is typed in
USER = r"^[A-Za-z0-9_][A-Za-z0-9._-]*$"  # with a dash before it, an option of ssh


class PoolSection(PlainSection):
    """Nodes that are alike, of which there are more or fewer as jobs ask for them."""

    name: str = Field(pattern=LABEL, description="Name of the pool: small letters, digits and dashes.")
    machine: str | None = Field(
        None, pattern=WORD, description="Machine type as the cloud names it, such as g6.xlarge; null: as told below."
    )
    market: Literal["on-demand", "spot"] = Field(
        "on-demand", description="spot: cheaper, and may be taken away with two minutes' notice or less."
    )
    cpus: int | None = Field(None, ge=1, description="Of each node; null: as the catalogue has it for the machine.")
    memory: float | None = Field(None, gt=0, description="GiB of each node; null: as the catalogue has it.")
    gpus: int | None = Field(None, ge=0, description="Of each node; null: as the catalogue has it, else 0.")
    gpu: str | None = Field(None, pattern=WORD, description="Their kind, such as L4; null: as the catalogue has it.")
    fewest: int = Field(0, ge=0, description="Nodes that are kept when nothing runs.")
    most: int = Field(1, ge=1, le=1000, description="Nodes at most.")
    price: float | None = Field(
        None, ge=0, description="Of a node per hour, in dollars; null: as the catalogue has it, which is dated."
    )

    @model_validator(mode="after")
    def _not_fewer_than_fewest(self) -> PoolSection:
        if self.fewest > self.most:
            raise ValueError(f"fewest ({self.fewest}) is more than most ({self.most})")
        return self


class LocalSection(PlainSection):
    """A cluster on this machine alone, reached from this machine alone."""

    port: int = Field(8265, ge=1024, le=65535, description="Of the dashboard and its job API, on 127.0.0.1.")


class SshSection(PlainSection):
    """How nodes are reached."""

    user: str = Field("ubuntu", pattern=USER, description="Who logs in.")
    key: str | None = Field(
        None, pattern=FILE, description="File with the private key, absolute or below ~/; null: ssh's own."
    )


class StaticSection(PlainSection):
    """Machines that are there."""

    head: str = Field(min_length=1, description="Host name or address of the head, in the network of the workers.")
    workers: tuple[str, ...] = Field((), description="Host names or addresses.")
    ssh: SshSection = Field(default_factory=SshSection, description="How they are reached.")

    @field_validator("workers", mode="before")
    @classmethod
    def _listed(cls, values: object) -> object:
        return tuple(values) if isinstance(values, list) else values


class SlurmSection(PlainSection):
    """A batch system that gives whole nodes for a while."""

    partition: str | None = Field(
        None, pattern=r"^[A-Za-z0-9._,-]+$", description="Partition, or several with commas; null: the default one."
    )
    account: str | None = Field(None, pattern=r"^[A-Za-z0-9._@+-]+$", description="Whom the hours are charged to.")
    hours: float = Field(
        24,
        ge=0.25,
        le=720,
        description="Time limit of one batch job, which is queued again five minutes before its end.",
    )
    setup: str | None = Field(
        None, min_length=1, description="Command that makes raysft known on a node, such as `module load raysft`."
    )


class AwsSection(PlainSection):
    """Amazon EC2."""

    region: str = Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$", description="Such as eu-west-1.")
    vpc: str = Field(pattern=r"^vpc-[0-9a-f]+$", description="Network of all nodes.")
    subnets: tuple[Annotated[str, Field(pattern=r"^subnet-[0-9a-z]+$")], ...] = Field(
        min_length=1, description="Private subnets, one a zone; where one has no capacity the next is tried."
    )
    security_group: str = Field(pattern=r"^sg-[0-9a-f]+$", description="Of all nodes; see network.json.")
    head_profile: str = Field(pattern=WORD, description="Instance profile of the head; see head-policy.json.")
    worker_profile: str = Field(pattern=WORD, description="Instance profile of workers; see worker-policy.json.")
    head_machine: str = Field("m7i.xlarge", pattern=WORD, description="Machine of the head, which has no GPU.")
    ami: str = Field(pattern=r"^ami-[0-9a-f]+$", description="Image of CPU and GPU nodes, with Docker and drivers.")
    disk: int = Field(200, ge=50, description="GiB of each node, encrypted.")
    file_system: str | None = Field(
        None, pattern=r"^fs-[0-9a-f]+$", description="EFS that is mounted on every node at `storage`."
    )
    bucket: str | None = Field(
        None,
        pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._-]+)*$",
        description="s3://BUCKET/PREFIX that jobs may read and write; null: none.",
    )

    @field_validator("subnets", mode="before")
    @classmethod
    def _listed(cls, values: object) -> object:
        return tuple(values) if isinstance(values, list) else values


class GcpSection(PlainSection):
    """Google Compute Engine."""

    project: str = Field(pattern=r"^[a-z][a-z0-9-]{4,28}[a-z0-9]$", description="Project id.")
    zone: str = Field(pattern=r"^[a-z]+-[a-z]+\d-[a-z]$", description="Such as europe-west4-a.")
    subnet: str = Field(pattern=WORD, description="Subnetwork of all nodes, without external addresses.")
    head_account: str = Field(pattern=WORD, description="E-mail of the head's service account.")
    worker_account: str = Field(pattern=WORD, description="E-mail of the workers' service account.")
    head_machine: str = Field("n2-standard-4", pattern=WORD, description="Machine of the head.")
    source_image: str = Field(pattern=r"^[\w./:-]+$", description="Image of the boot disks, with Docker and drivers.")
    disk: int = Field(200, ge=50, description="GiB of each node.")
    filestore: str | None = Field(
        None, pattern=SHARE, description="ADDRESS:/SHARE that is mounted on every node at `storage`."
    )


class AzureSection(PlainSection):
    """Azure virtual machines."""

    subscription: str = Field(pattern=r"^[0-9a-fA-F-]{36}$", description="Subscription id.")
    location: str = Field(pattern=r"^[a-z0-9]+$", description="Such as westeurope.")
    resource_group: str = Field(pattern=r"^[\w.()-]+$", description="Resource group of all that is made.")
    identity: str = Field(pattern=RESOURCE, description="Resource id of the user-assigned identity of the nodes.")
    subnet: str = Field(pattern=RESOURCE, description="Resource id of the subnet of all nodes.")
    head_machine: str = Field("Standard_D4s_v5", pattern=WORD, description="Machine of the head.")
    image: str = Field(pattern=r"^[\w.:-]+$", description="PUBLISHER:OFFER:SKU:VERSION of the boot disks.")
    share: str | None = Field(
        None, pattern=SHARE, description="HOST:/PATH of an NFS share that is mounted on every node at `storage`."
    )

    @field_validator("image")
    @classmethod
    def _four_parts(cls, image: str) -> str:
        if len(image.split(":")) != 4:
            raise ValueError(f"PUBLISHER:OFFER:SKU:VERSION, found {image!r}")
        if image.endswith(":latest"):
            raise ValueError(f"a version, since latest is another every week; found {image!r}")
        return image


class KubernetesSection(PlainSection):
    """Kubernetes with the KubeRay operator."""

    namespace: str = Field(pattern=LABEL, description="Of all that is made.")
    queue: str | None = Field(None, pattern=LABEL, description="Kueue's local queue that admits jobs; null: none.")
    api_cidr: tuple[Cidr, ...] = Field(
        (),
        description="Address ranges of the API of Kubernetes, which the autoscaler asks for pods.",
    )
    claim: str = Field(pattern=LABEL, description="Persistent volume claim (ReadWriteMany) mounted at `storage`.")
    storage_class: str | None = Field(
        None, min_length=1, description="Of a claim that is made: disks that many nodes may write; null: the default."
    )
    storage_gib: int | None = Field(
        None, ge=1, description="GiB of a claim that is made; null: the claim is there, and is left as it is."
    )
    token_secret: str | None = Field(
        None, pattern=LABEL, description="Secret with the cluster's token; null: NAME-token, of this cluster alone."
    )
    service_account: str | None = Field(
        None,
        pattern=LABEL,
        description="Of pods where jobs run; it may nothing. null: NAME-pods, of this cluster alone.",
    )
    node_labels: dict[str, dict[str, str]] = Field(
        {}, description="By pool: labels of the nodes that its pods go to, such as {l4: {gpu: nvidia-l4}}."
    )
    spot_taint: str | None = Field(
        None,
        pattern=r"^[\w./=-]+$",
        description="KEY=VALUE of the taint of spot nodes, which pods of spot pools tolerate.",
    )
    lost_head: Literal["starts-anew", "remembers"] = Field(
        "remembers", description="remembers: what the head knew is kept on the claim, so that a new head goes on."
    )

    @field_validator("api_cidr", mode="before")
    @classmethod
    def _listed(cls, values: object) -> object:
        return tuple(values) if isinstance(values, list) else values

    @field_validator("api_cidr")
    @classmethod
    def _not_everyone(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        if everyone := sorted(ANYWHERE & set(values)):
            raise ValueError(f"{everyone[0]} is everyone; give the addresses of the API")
        return values


class ClusterConfig(PlainSection):
    """One cluster file."""

    name: Annotated[str, BeforeValidator(parse_name)] = Field(
        pattern=LABEL, description="Name of the cluster: small letters, digits and dashes."
    )
    address: str | None = Field(
        None,
        pattern=r"^https?://[^\s/]+(/\S*)?$",
        description="Of its dashboard as this machine reaches it, often through a tunnel; null: http://127.0.0.1:8265, "
        "of a cluster that was brought up or installed from here.",
    )
    token_file: str | None = Field(
        None,
        pattern=FILE,
        description="File with the cluster's token, absolute or below ~/; null: that of a cluster that was brought up "
        "or installed from here, else ~/.ray/auth_token.",
    )
    storage: str | None = Field(
        None,
        pattern=FOLDER,
        description="Folder that every node sees under the same path; outputs of jobs go there. null: of this machine.",
    )
    image: str | None = Field(
        None, pattern=IMAGE, description="Container image of all nodes, with raysft in it, pinned by version or digest."
    )
    idle_minutes: float = Field(5, gt=0, description="After which a node without work is given back.")
    no_capacity_minutes: float = Field(
        10, gt=0, description="How long a pool is left alone after its cloud had no machine for it."
    )
    pools: tuple[PoolSection, ...] = Field((), description="Nodes for work, in the order in which they are asked for.")
    local: LocalSection | None = Field(None, description="This machine.")
    static: StaticSection | None = Field(None, description="Machines that are there.")
    slurm: SlurmSection | None = Field(None, description="A batch system.")
    aws: AwsSection | None = Field(None, description="Amazon EC2.")
    gcp: GcpSection | None = Field(None, description="Google Compute Engine.")
    azure: AzureSection | None = Field(None, description="Azure virtual machines.")
    kubernetes: KubernetesSection | None = Field(None, description="Kubernetes with KubeRay.")

    @property
    def kind(self) -> str:
        """Which of the sections is there: one of KINDS."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @field_validator("pools", mode="before")
    @classmethod
    def _listed(cls, values: object) -> object:
        return tuple(values) if isinstance(values, list) else values

    @field_validator("pools")
    @classmethod
    def _named_apart(cls, pools: tuple[PoolSection, ...]) -> tuple[PoolSection, ...]:
        names = [pool.name for pool in pools]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"pools have names of their own; twice: {', '.join(twice)}")
        return pools

    @model_validator(mode="before")
    @classmethod
    def _one_kind(cls, values: Any) -> Any:
        if isinstance(values, dict):
            there = [kind for kind in KINDS if values.get(kind) is not None]
            if len(there) != 1:
                found = " and ".join(there) if there else "none"
                raise ValueError(f"one of the sections {', '.join(KINDS)} says where the cluster is; found {found}")
        return values

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> ClusterConfig:
        if self.kind != "local" and self.storage is None:
            raise ValueError("storage: must be given where there are several machines: a folder that all of them see")
        if self.kind in (*CLOUDS, "kubernetes"):
            if self.image is None:
                raise ValueError(f"image: must be given for {self.kind}")
            if self.image.endswith(":latest") or (":" not in self.image.rpartition("/")[2] and "@" not in self.image):
                raise ValueError(f"image: a version or a digest, since latest changes; found {self.image!r}")
            if not self.pools:
                raise ValueError(f"pools: at least one, since the head of {self.kind} does no work")
        if self.kind in CLOUDS and (unknown := [pool.name for pool in self.pools if pool.machine is None]):
            raise ValueError(f"pools: {', '.join(unknown)}: machine must be given in a cloud")
        return self
