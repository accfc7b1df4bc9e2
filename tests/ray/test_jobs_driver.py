"""What a driver tells of the GPUs that its own job holds, on a real Ray whose GPUs are only counted."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.ray

# Another job of the same Ray holds one GPU; this one waits for eight, holds two and then a half, and gives them back.
DRIVER = """
import json, subprocess, sys, time
import ray
from ray.util.placement_group import placement_group, remove_placement_group
from raysft.jobs.driver import _nodes

OTHER = '''
import sys, ray
from ray.util.placement_group import placement_group
ray.init(address=sys.argv[1], log_to_driver=False)
ray.get(placement_group([{"GPU": 1}]).ready())
print("has one", flush=True)
sys.stdin.read()
'''

assert _nodes() is None
found = ray.init(address="local", num_cpus=2, num_gpus=4, include_dashboard=False, log_to_driver=False)
address = found.address_info["address"]
other = subprocess.Popen([sys.executable, "-c", OTHER, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
assert other.stdout.readline() == b"has one\\n"
told = [_nodes()]
waits = placement_group([{"GPU": 8}])
groups = [placement_group([{"CPU": 0.5, "GPU": 1}] * 2), placement_group([{"GPU": 0.5}])]
ray.get([group.ready() for group in groups])
told.append(_nodes())
for group in groups:
    remove_placement_group(group)
time.sleep(1)
told.append(_nodes())
print(json.dumps([[each["held_gpus"], each["gpus"]] for each in told]))
other.stdin.close()
other.wait()
ray.shutdown()
"""


def test_gpus_are_those_that_the_job_itself_holds() -> None:
    done = subprocess.run([sys.executable, "-c", DRIVER], capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[[0, 4], [2.5, 4], [0, 4]]"
