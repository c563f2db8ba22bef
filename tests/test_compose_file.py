"""docker-compose.yaml against the project: versions, mounts, ports, names of settings."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from compose_file import (
    COMPOSE_FILE,
    PROJECT,
    MissingVariableError,
    Service,
    example_variables,
    load,
    services,
    used_variables,
)
from shelfkin.settings import Settings

FILLED = dict.fromkeys(example_variables(), "letters1")
DOCKERFILE = (PROJECT / "Dockerfile").read_text()


@pytest.fixture(scope="module")
def parts() -> dict[str, Service]:
    return services(FILLED)


def test_the_example_lists_every_variable_and_no_other() -> None:
    assert set(example_variables()) == used_variables()


def test_a_secret_that_is_not_written_stops_it() -> None:
    secrets = {name for name in FILLED if re.search("PASSWORD|KEY|SECRET", name)} - {"OPENAI_API_KEY"}
    assert len(secrets) == 6
    for name in secrets:
        with pytest.raises(MissingVariableError, match=name):
            load({**FILLED, name: ""})


def test_it_follows_the_compose_specification() -> None:
    checker = Path(sys.executable).with_name("check-jsonschema")
    done = subprocess.run(
        [checker, "--builtin-schema", "vendor.compose-spec", COMPOSE_FILE], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_names_of_settings_are_known(parts: dict[str, Service]) -> None:
    installed = find_spec("airflow")  # not imported: that takes seconds
    assert installed is not None and installed.origin is not None
    options = yaml.safe_load((Path(installed.origin).parent / "config_templates" / "config.yml").read_text())
    names = {name for part in parts.values() for name in part.environment}
    for name in names:
        if found := re.fullmatch(r"AIRFLOW__([A-Z_]+?)__([A-Z_]+)", name):
            section, option = (word.lower() for word in found.groups())
            assert option in options[section]["options"], name
    documented = set(re.findall(r"``([A-Z_]+)``", Settings.__doc__ or ""))
    ours = {name for name in names if name.startswith("SHELFKIN_")}
    assert ours and ours <= documented
    # What the image sets must be known as well.
    assert set(re.findall(r"^ *(?:ENV )?((?:SHELFKIN|ARTIFACT)_\w+)=", DOCKERFILE, flags=re.MULTILINE)) <= documented


def test_what_is_kept_lies_on_volumes(parts: dict[str, Service]) -> None:
    volumes = load(FILLED)["volumes"]
    folders = dict(re.findall(r"(AIRFLOW_HOME|ARTIFACT_ROOT|SHELFKIN_DATA)=(\S+)", DOCKERFILE))
    for name, part in parts.items():
        if name == "postgres":
            continue
        mounts = dict(mount.split(":")[:2][::-1] for mount in part.content["volumes"])
        assert mounts[folders["ARTIFACT_ROOT"]] == "artifacts" and mounts[folders["SHELFKIN_DATA"]] == "data"
        assert mounts["/opt/shelfkin/include/stores"] == "./include/stores"
        for target, source in mounts.items():
            assert source in volumes or (PROJECT / source).is_dir(), f"{name}: {source} -> {target}"
    # Written by a user who isn't root: a folder that the image lacks would belong to root.
    made = re.search(r"install --directory --owner=airflow (.+)", DOCKERFILE)
    assert made and {"/opt/artifacts", "/opt/data", "/opt/airflow/logs"} <= set(made[1].split())


def test_ports_are_open_to_this_machine_only(parts: dict[str, Service]) -> None:
    ports = [port for part in parts.values() for port in part.content.get("ports", [])]
    assert ports and all(port.startswith("127.0.0.1:") for port in ports)


def test_whatever_stays_up_is_watched(parts: dict[str, Service]) -> None:
    for name, part in parts.items():
        assert ("healthcheck" in part.content) == (name != "init"), name


def test_versions_are_the_projects() -> None:
    makefile = (PROJECT / "Makefile").read_text()
    version = re.search(r"UV_VERSION := (\S+)", makefile)
    assert version and f"uv=={version[1]}" in DOCKERFILE
    assert f"FROM python:{sys.version_info.major}.{sys.version_info.minor}-" in DOCKERFILE
    assert "openjdk-17-" in DOCKERFILE


def test_secrets_of_the_machine_stay_out_of_the_image() -> None:
    ignored = (PROJECT / ".dockerignore").read_text().split()
    assert {".env", ".airflow", ".git", "artifacts", "data"} <= set(ignored)
    assert ".env" in (PROJECT / ".gitignore").read_text().split()
