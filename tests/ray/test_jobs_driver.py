"""What a driver tells of the GPUs that its own job holds, on a real Ray whose GPUs are only counted."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.ray

# Another job of the same Ray holds one GPU; this one waits for eight, holds two and then a half, gives them back, and
# leaves that Ray, which loses a node afterwards.
DRIVER = """
import json, subprocess, sys, time
import ray
from ray.util.placement_group import placement_group, remove_placement_group
from raysft.jobs.driver import Nodes

OTHER = '''
import sys, ray
from ray.cluster_utils import Cluster
from ray.util.placement_group import placement_group
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 3, "include_dashboard": False})
node = cluster.add_node(num_cpus=1, num_gpus=1, labels={"raysft.io/pool": "spot"})
ray.init(address=cluster.address, log_to_driver=False)
ray.get(placement_group([{"GPU": 1}]).ready())
print(cluster.address, flush=True)
sys.stdin.readline()
cluster.remove_node(node)
print("gone", flush=True)
sys.stdin.read()
ray.shutdown()
cluster.shutdown()
'''

nodes = Nodes()
assert nodes.look() is None
other = subprocess.Popen([sys.executable, "-c", OTHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
ray.init(address=other.stdout.readline().strip(), log_to_driver=False)
told = [nodes.look()]
waits = placement_group([{"GPU": 8}])
groups = [placement_group([{"CPU": 0.5, "GPU": 1}] * 2), placement_group([{"GPU": 0.5}])]
ray.get([group.ready() for group in groups])
told.append(nodes.look())
ray.shutdown()
told.append(nodes.look())
other.stdin.write("go\\n")
other.stdin.flush()
assert other.stdout.readline() == "gone\\n"
deadline = time.monotonic() + 60
while nodes.look()["gpus"] == 4 and time.monotonic() < deadline:
    time.sleep(0.5)
told.append(nodes.look())
print(json.dumps([[each["held_gpus"], each["gpus"], each["pools"]] for each in told]))
other.stdin.close()
other.wait()
"""


def test_gpus_are_those_that_the_job_itself_holds_and_nodes_are_told_when_it_has_left_ray() -> None:
    done = subprocess.run([sys.executable, "-c", DRIVER], capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    both, one = {"": 1, "spot": 1}, {"": 1}
    assert json.loads(done.stdout.splitlines()[-1]) == [[0, 4, both], [2.5, 4, both], [0, 4, both], [0, 3, one]]
