"""The catalogue of machines: its facts, and what it adds to the pools of a cluster file."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from raysft.cluster.pools.catalogue import Pool, machines, pools_of, pools_on
from raysft.config import load_cluster
from raysft.errors import JobFileError

AWS = """\
name: west
storage: /mnt/raysft
image: example.org/raysft:0.1.0
aws:
  region: eu-west-1
  vpc: vpc-0a
  subnets: [subnet-0a]
  security_group: sg-0a
  head_profile: head
  worker_profile: worker
  ami: ami-0a
pools:
"""


def pools(folder: Path, text: str, head: str = AWS) -> tuple[Pool, ...]:
    path = folder / "cluster.yaml"
    path.write_text(head + text, encoding="utf-8")
    return pools_of(load_cluster(path))


def problem(folder: Path, text: str, head: str = AWS) -> str:
    with pytest.raises(JobFileError) as caught:
        pools(folder, text, head)
    return str(caught.value).replace(f"{folder}/", "")


def test_the_catalogue_has_the_machines_that_people_use() -> None:
    found = machines()
    assert len(found) >= 80
    assert len({each.name for each in found}) == len(found)
    assert {each.cloud for each in found} == {"aws", "gcp", "azure"}
    heads = {"m7i.xlarge", "n2-standard-4", "Standard_D4s_v5"}
    assert heads <= {each.name for each in found if not each.gpus}
    for each in found:
        assert each.cpus > 0 and each.memory_gib > 0, each
        assert bool(each.gpus) == bool(each.gpu) == bool(each.gpu_gib) == bool(each.tflops), each
        assert re.fullmatch(r"\d{4}-\d{2}", each.date) and each.region and each.source, each
        if each.price is not None and each.spot is not None:
            assert 0 < each.spot < each.price, each


def test_the_docs_know_how_many_machines_there_are_and_the_date_of_their_prices() -> None:
    text = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    assert f"has {len(machines())} machine types" in text
    assert {each.date for each in machines()} == {"2025-06"} and "June 2025" in text


def test_machines_of_aws_are_as_aws_describes_them() -> None:
    moto = pytest.importorskip("moto", reason="moto has what AWS's API says of each machine type")
    resource = Path(moto.__file__).parent / "ec2" / "resources" / "instance_types.json.gz"
    described = json.loads(gzip.decompress(resource.read_bytes()))
    compared = [each for each in machines() if each.cloud == "aws"]
    assert len(compared) >= 40
    for each in compared:
        told = described[each.name]
        assert each.cpus == told["VCpuInfo"]["DefaultVCpus"], each
        assert each.memory_gib * 1024 == told["MemoryInfo"]["SizeInMiB"], each
        gpus = told.get("GpuInfo", {}).get("Gpus", [])
        assert [(each.gpu, each.gpus)] * bool(gpus) == [(gpu["Name"], gpu["Count"]) for gpu in gpus], each
        for gpu in gpus:  # what CUDA reports is a little less than what is built in
            assert 0.88 < each.gpu_gib * 1024 / gpu["MemoryInfo"]["SizeInMiB"] <= 1, each


def test_kinds_of_gpus_are_named_as_ray_names_them() -> None:
    from ray.util.accelerators import accelerators

    names = {value for name, value in vars(accelerators).items() if name.startswith("NVIDIA_")}
    assert {each.gpu for each in machines() if each.gpu} - names == {"A10"}  # of Azure; Ray detects it under this name


def test_a_pool_is_filled_in_from_its_machine(tmp_path: Path) -> None:
    spot, behind = pools(
        tmp_path,
        "  - {name: l4-spot, machine: g6.xlarge, market: spot, most: 4}\n"
        "  - {name: l4, machine: g6.xlarge, fewest: 1, most: 2}\n",
    )
    assert (spot.cpus, spot.memory_gib, spot.gpus, spot.gpu, spot.gpu_gib) == (4, 16, 1, "L4", 22.0)
    assert (spot.market, spot.fewest, spot.most, spot.tflops) == ("spot", 0, 4, 121)
    assert spot.price is not None and behind.price is not None and spot.price < behind.price
    assert behind.price == 0.8048 and behind.priced == "list price, us-east-1, 2025-06"
    assert spot.priced == "estimated spot price, us-east-1, 2025-06"
    assert spot.spot and not behind.spot


def test_on_kubernetes_a_node_of_ray_is_a_pod_which_takes_less_than_its_machine(tmp_path: Path) -> None:
    pool = "  - {name: l4, machine: g6.xlarge}\n  - {name: told, machine: g6.xlarge, cpus: 2, memory: 10}\n"
    path = tmp_path / "cluster.yaml"
    path.write_text(AWS + pool, encoding="utf-8")
    assert pools_on(load_cluster(path)) == pools(tmp_path, pool)
    head = "name: k\nstorage: /mnt/x\nimage: x/y:1\nkubernetes: {namespace: n, claim: c}\npools:\n"
    path.write_text(head + pool, encoding="utf-8")
    assert [(each.cpus, each.memory_gib, each.gpus) for each in pools_on(load_cluster(path))] == [
        (3, 13, 1),
        (2, 10, 1),
    ]


def test_what_a_pool_tells_goes_before_the_catalogue(tmp_path: Path) -> None:
    (pool,) = pools(tmp_path, "  - {name: a, machine: g6.xlarge, cpus: 3, memory: 12.5, gpus: 2, price: 0.5}\n")
    assert (pool.cpus, pool.memory_gib, pool.gpus, pool.gpu, pool.price) == (3, 12.5, 2, "L4", 0.5)
    assert pool.priced == "price of the pool"
    (none,) = pools(tmp_path, "  - {name: a, machine: g6.xlarge, gpus: 0}\n")
    assert (none.gpus, none.gpu, none.gpu_gib, none.tflops) == (0, "", 0.0, 0.0)
    (free,) = pools(tmp_path, "  - {name: a, machine: g6.xlarge, price: 0}\n")
    assert free.price == 0


@pytest.mark.parametrize(
    ("kind", "name", "gib"),
    [("A100", "A100", 39.3), ("A100-80G", "A100", 79.1), ("A100-40G", "A100", 39.3), ("h100", "H100", 79.1)],
)
def test_a_kind_of_gpu_says_its_memory(tmp_path: Path, kind: str, name: str, gib: float) -> None:
    head = "name: rack\nstorage: /mnt/x\nstatic: {head: h1}\npools:\n"
    (pool,) = pools(tmp_path, f"  - {{name: a, cpus: 64, gpus: 8, gpu: {kind}, most: 2}}\n", head)
    assert (pool.gpu, pool.gpu_gib, pool.machine, pool.price, pool.priced) == (name, gib, "", None, "")
    assert pool.tflops > 0


def test_a_kind_that_the_catalogue_lacks_is_taken_as_told(tmp_path: Path) -> None:
    head = "name: rack\nstorage: /mnt/x\nstatic: {head: h1}\npools:\n"
    (pool,) = pools(tmp_path, "  - {name: a, cpus: 64, gpus: 8, gpu: MI300X}\n", head)
    assert (pool.gpu, pool.gpu_gib, pool.tflops, pool.memory_gib) == ("MI300X", 0.0, 0.0, 0.0)


def test_a_cluster_without_pools_has_none(tmp_path: Path) -> None:
    assert pools(tmp_path, "", "name: here\nlocal: {}\n") == ()


def test_an_unknown_machine_is_named_with_the_nearest_and_its_line(tmp_path: Path) -> None:
    told = problem(tmp_path, "  - name: ok\n    machine: g6.xlarge\n  - name: bad\n    machine: g6.xlrage\n")
    assert told.startswith("cluster.yaml:16: pools.1.machine: no machine g6.xlrage in the catalogue; did you mean g6.")
    assert "tell cpus" in told


def test_a_machine_of_another_cloud_is_unknown(tmp_path: Path) -> None:
    assert "no machine n2-standard-4 in the catalogue" in problem(tmp_path, "  - {name: a, machine: n2-standard-4}\n")


def test_an_unknown_machine_may_be_told(tmp_path: Path) -> None:
    (pool,) = pools(tmp_path, "  - {name: a, machine: p9.48xlarge, cpus: 96, gpus: 8, gpu: H200, price: 70}\n")
    assert (pool.machine, pool.cpus, pool.gpus, pool.gpu, pool.gpu_gib) == ("p9.48xlarge", 96, 8, "H200", 139.7)


def test_gpus_without_their_kind_are_refused(tmp_path: Path) -> None:
    told = problem(tmp_path, "  - {name: a, machine: p9.48xlarge, cpus: 96, gpus: 8}\n")
    assert told.startswith("cluster.yaml:13: pools.0.gpu: must be given: pool a has 8 GPU(s) a node")
    assert "such as L4" in told


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    head = "name: rack\nstorage: /mnt/x\nstatic: {head: h1}\npools:\n"
    told = problem(tmp_path, "  - {name: a, gpus: 1}\n  - {name: b}\n", head).splitlines()
    assert [line.split(": ")[1] for line in told] == ["pools.0.cpus", "pools.0.gpu", "pools.1.cpus"]
