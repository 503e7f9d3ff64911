"""What operators start from: the manifests are what KubeRay takes, and the commands in them are what rft takes."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from rft.cluster import Node, share_out
from rft.cluster.seating import Seat, idle_gpus_warning, missing
from rft.config import RunConfig
from rft.config.clusters import AttachClusterConfig
from rft.config.command_line import read_line
from rft.config.commands import load_training

DEPLOY = Path(__file__).parents[2] / "deploy"
SCHEMA = json.loads((Path(__file__).parent / "kuberay_schema.json").read_text())
SBATCH = DEPLOY / "slurm" / "rft.sbatch"


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "kuberay" / name).read_text()))


CLUSTER = documents("raycluster.yaml")[0]
JOB = documents("rayjob.yaml")[0]
SPECS = {"raycluster": CLUSTER["spec"], "rayjob": JOB["spec"]["rayClusterSpec"]}


def pods(spec: dict[str, Any]) -> list[dict[str, Any]]:
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


@pytest.mark.parametrize("document", [CLUSTER, JOB], ids=lambda document: document["kind"])
def test_what_the_published_schema_says(document: dict[str, Any]) -> None:
    assert document["apiVersion"] == "ray.io/v1"
    jsonschema.Draft7Validator(SCHEMA[document["kind"]]).validate(document["spec"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda spec: spec.update(entrypont="rft"), "'entrypont' was unexpected"),
        (lambda spec: spec["rayClusterSpec"]["authOptions"].update(mode="off"), "'off' is not one of"),
        (lambda spec: pods(spec["rayClusterSpec"])[0]["containers"][0].pop("name"), "'name' is a required property"),
    ],
)
def test_the_schema_refuses(change: Any, message: str) -> None:
    spec = json.loads(json.dumps(JOB["spec"]))
    change(spec)
    with pytest.raises(jsonschema.ValidationError, match=re.escape(message)):
        jsonschema.Draft7Validator(SCHEMA["RayJob"]).validate(spec)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_what_rft_needs_of_a_cluster(spec: dict[str, Any]) -> None:
    assert spec["rayVersion"] == metadata.version("ray")
    assert spec["authOptions"]["mode"] == "token"
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP", "nothing is open to the outside"
    assert {container["image"] for pod in pods(spec) for container in pod["containers"]} == {
        "registry.example.com/rft:0.1.0"
    }
    for pod in pods(spec):
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = {mount["mountPath"]: mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
        assert volumes[mounts["/dev/shm"]]["emptyDir"]["medium"] == "Memory"
        assert set(mounts.values()) == volumes.keys()


def test_the_claim_is_there() -> None:
    claims = {document["metadata"]["name"] for document in documents("raycluster.yaml")[1:]}
    for spec in SPECS.values():
        [asked] = [v["persistentVolumeClaim"]["claimName"] for v in pods(spec)[0]["volumes"] if "emptyDir" not in v]
        assert asked in claims


def test_the_job_runs_what_rft_takes() -> None:
    command, subcommand, *words = shlex.split(JOB["spec"]["entrypoint"])
    assert (command, subcommand) == ("rft", "train")
    assert words[0] == "--or-resume", "a retry of the job continues the run"
    assert JOB["spec"]["backoffLimit"] > 0
    run = load_training([*read_line(words, "rft train").words, "logging=none"])
    assert (run.or_resume, run.resume) == (True, None)
    assert run.cluster == AttachClusterConfig()
    # The samplers and the learner get one GPU each, so that none of the rented GPUs is idle.
    [group] = JOB["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    resources = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    nodes = [
        node(f"pod {number}", cpus=float(resources["cpu"]), gpus=float(resources["nvidia.com/gpu"]))
        for number in range(group["replicas"])
    ]
    check_every_gpu_is_used(run, nodes)


def node(name: str, *, cpus: float, gpus: float) -> Node:
    return Node(id=name, name=name, cpus=cpus, gpus=gpus, free_cpus=cpus, free_gpus=gpus)


def check_every_gpu_is_used(run: RunConfig, nodes: list[Node]) -> None:
    shares = share_out(run.sampler, run.learner, nodes)
    seats = [Seat(role="sampler", cpus=1, gpus=shares.sampler_gpus)] * run.sampler.num_actors
    seats += [Seat(role="learner", cpus=1, gpus=shares.learner_gpus)] * run.learner.num_workers
    assert (shares.sampler_gpus, shares.learner_gpus) == (1, 1)
    assert idle_gpus_warning(seats, nodes) is None
    assert missing(seats, nodes) is None


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_the_object_store_fits_into_shared_memory(spec: dict[str, Any]) -> None:
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        [size] = [v["emptyDir"]["sizeLimit"] for v in group["template"]["spec"]["volumes"] if "emptyDir" in v]
        assert int(group["rayStartParams"]["object-store-memory"]) < int(size.removesuffix("Gi")) * 2**30


def test_the_slurm_script_is_bash() -> None:
    subprocess.run(["bash", "-n", SBATCH], check=True)
    text = SBATCH.read_text()
    assert "export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK" in text
    directives = re.findall(r"^#SBATCH (--[a-z-]+)=", text, re.MULTILINE)
    assert {"--nodes", "--ntasks-per-node", "--cpus-per-task", "--time", "--signal"} <= set(directives)
    assert "#SBATCH --requeue" in text
    assert "RAY_AUTH_MODE=token" in text
    assert "--dashboard-host" not in text


def test_the_slurm_script_runs_what_rft_takes() -> None:
    [words] = re.findall(r'rft train (.*) "\$@"', SBATCH.read_text().replace(" \\\n", " "))
    values = words.replace("$address:$PORT", "10.0.0.1:20000").replace("$output_dir", "out").replace("$notice", "note")
    run = load_training(["experiment=quickstart", *read_line(shlex.split(values), "rft train").words])
    assert (run.or_resume, run.output_dir, run.loop.notice) == (True, "out", "note")
    assert run.cluster == AttachClusterConfig(address="10.0.0.1:20000", placement_timeout_s=600.0)


def test_the_example_of_the_slurm_script_uses_every_gpu() -> None:
    [(nodes, gpus, words)] = re.findall(
        r"sbatch --nodes=(\d+) --gpus-per-node=(\d+) deploy/slurm/rft.sbatch (.*)", SBATCH.read_text()
    )
    run = load_training([*words.split(), "cluster=attach"])
    check_every_gpu_is_used(run, [node(str(number), cpus=8, gpus=float(gpus)) for number in range(int(nodes))])
