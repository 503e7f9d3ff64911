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

from rft.config.commands import load_training
from rft.config.schema import AttachClusterConfig

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
    run = load_training([*words, "logging=none"])
    assert run.cluster == AttachClusterConfig()
    # The samplers and the learner get one GPU each.
    [group] = JOB["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert group["replicas"] == run.sampler.num_actors + 1


def test_the_slurm_script_is_bash() -> None:
    subprocess.run(["bash", "-n", SBATCH], check=True)
    text = SBATCH.read_text()
    directives = re.findall(r"^#SBATCH (--[a-z-]+)=", text, re.MULTILINE)
    assert {"--nodes", "--ntasks-per-node", "--cpus-per-task", "--time", "--signal"} <= set(directives)
    assert "RAY_AUTH_MODE=token" in text
    assert "--dashboard-host" not in text


def test_the_slurm_script_runs_what_rft_takes() -> None:
    [words] = re.findall(r'rft train (cluster=.*) "\$@"', SBATCH.read_text())
    values = words.replace('"$address:$PORT"', "10.0.0.1:20000").split()
    run = load_training(["experiment=quickstart", *values])
    assert run.cluster == AttachClusterConfig(address="10.0.0.1:20000", placement_timeout_s=600.0)
