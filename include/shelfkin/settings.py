"""Settings of this installation: what the environment says.

Nothing here imports pyspark or Airflow, so that the DAG processor can read it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from shelfkin.errors import ProfileError
from shelfkin.json_object import json_object
from shelfkin.profile import StoreProfile, store_names
from shelfkin.profile_file import load_profile
from shelfkin.spark_submit import submit_conf

_PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class PostgresTarget:
    """A shop's database that published tables are copied into.

    Attributes
    ----------
    url
        libpq URL. It may hold a password, so that it is unwrapped only to connect.
    keep_runs
        Published runs that stay in the database, the served one among them.
    """

    url: SecretStr
    keep_runs: int

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> PostgresTarget | None:
        """Read the target from the environment; None without ``SHELFKIN_PUBLISH_POSTGRES``.

        Raises
        ------
        ProfileError
            The URL can't be read, or the number of runs isn't one. The message never quotes the URL.
        """
        url = env.get("SHELFKIN_PUBLISH_POSTGRES", "").strip()
        if not url:
            return None
        problem = ""
        if not url.startswith(("postgresql://", "postgres://")):
            problem = "does not begin with postgresql:// (a driver's name such as +psycopg2 has no place in it)"
        elif url.count("@") > 1 or "@" in url.split("://", 1)[1].partition("/")[2]:
            # libpq would take half of the password for a host's or a database's name, and print it in its errors.
            problem = "has an @ or a / too many: inside user and password they are written %40 and %2F"
        if problem:
            raise ProfileError(
                f"SHELFKIN_PUBLISH_POSTGRES {problem}.",
                next_step="Write postgresql://user:password@host:5432/database.",
            )
        return cls(SecretStr(url), _runs_to_keep(env.get("SHELFKIN_PUBLISH_KEEP_RUNS") or "3"))


def _runs_to_keep(text: str) -> int:
    # Two at least: a transaction that began just before a publish reads the run before it.
    if not re.fullmatch(r"[0-9]{1,3}", text) or int(text) < 2:
        raise ProfileError(f"SHELFKIN_PUBLISH_KEEP_RUNS must be a whole number from 2 to 999; it is {text[:80]!r}.")
    return int(text)


def _webhook(url: str) -> SecretStr | None:
    if url and not re.fullmatch(r"https?://[!-~]+", url):
        raise ProfileError(
            "SHELFKIN_NOTIFY_WEBHOOK is no URL.",
            next_step="Write http:// or https://, and no blank or letter beyond ASCII.",
        )
    return SecretStr(url) if url else None


def _notifiers(text: str) -> dict[str, dict[str, Any]]:
    example = """Write '{"airflow.providers.smtp.notifications.smtp.SmtpNotifier": {"to": "ops@shop.example"}}'."""
    found = json_object(text, "SHELFKIN_NOTIFIERS", ProfileError, example)
    for path, arguments in found.items():
        if not isinstance(arguments, dict):
            raise ProfileError(f"SHELFKIN_NOTIFIERS: {path} needs an object of arguments.", next_step=example)
    return found


@dataclass(frozen=True)
class Settings:
    """Where this installation keeps things; every value can be set in the environment.

    Attributes
    ----------
    artifact_root
        ``ARTIFACT_ROOT``: local path or fsspec URI of all artifacts. Default ``./artifacts``.
    stores_dir
        ``SHELFKIN_STORES_DIR``: folder of store profiles. Default ``include/stores``.
    default_store
        ``SHELFKIN_DEFAULT_STORE``: the store whose DAG is plain ``product_recommendations``.
    data_dir
        ``SHELFKIN_DATA``: where `make demo` puts the demo's raw files. Default ``./data``.
    reference_data
        ``SHELFKIN_REFERENCE_DATA``: folder of the reference data sets, or None.
    driver_memory
        ``SHELFKIN_DRIVER_MEMORY``: heap of the Spark driver, which in local mode is all of Spark. Default ``4g``.
    spark_conf
        ``SHELFKIN_SPARK_CONF``: a JSON object of further Spark settings for spark-submit.
    publish_postgres
        ``SHELFKIN_PUBLISH_POSTGRES``: libpq URL of a database that published tables are copied into as well, with the
        last ``SHELFKIN_PUBLISH_KEEP_RUNS`` runs (default 3). Default: none.
    notify_webhook
        ``SHELFKIN_NOTIFY_WEBHOOK``: URL that gets a JSON object for each failure. Often a secret. Default: none.
    notifiers
        ``SHELFKIN_NOTIFIERS``: a JSON object of further notifiers of Airflow's, by class, with their arguments.
    """

    artifact_root: str
    stores_dir: Path
    default_store: str
    data_dir: Path
    reference_data: Path | None
    driver_memory: str
    spark_conf: dict[str, str]
    publish_postgres: PostgresTarget | None = None
    notify_webhook: SecretStr | None = None
    notifiers: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Read the settings from the environment, once, in one place."""
        env = os.environ if env is None else env
        reference = env.get("SHELFKIN_REFERENCE_DATA")
        return cls(
            artifact_root=env.get("ARTIFACT_ROOT") or str(_PROJECT / "artifacts"),
            stores_dir=Path(env.get("SHELFKIN_STORES_DIR") or _PROJECT / "include" / "stores"),
            default_store=env.get("SHELFKIN_DEFAULT_STORE") or "complete_journey",
            data_dir=Path(env.get("SHELFKIN_DATA") or _PROJECT / "data"),
            reference_data=Path(reference) if reference else None,
            driver_memory=env.get("SHELFKIN_DRIVER_MEMORY") or "4g",
            spark_conf=submit_conf(env.get("SHELFKIN_SPARK_CONF")),
            publish_postgres=PostgresTarget.from_env(env),
            notify_webhook=_webhook(env.get("SHELFKIN_NOTIFY_WEBHOOK", "").strip()),
            notifiers=_notifiers(env.get("SHELFKIN_NOTIFIERS") or "{}"),
        )

    def dag_id(self, store: str) -> str:
        """Return the id of a store's DAG."""
        return "product_recommendations" + ("" if store == self.default_store else f"__{store}")

    @property
    def folders(self) -> dict[str, str]:
        """The folders that a stage's command line names."""
        return {
            "artifact_root": self.artifact_root,
            "stores_dir": str(self.stores_dir),
            "data_dir": str(self.data_dir),
        }

    def path_variables(self) -> dict[str, str | None]:
        """Return what ``${...}`` in a profile's paths may stand for."""
        return {
            "SHELFKIN_DATA": str(self.data_dir),
            "SHELFKIN_REFERENCE_DATA": str(self.reference_data) if self.reference_data else None,
        }

    def profiles(self) -> tuple[list[StoreProfile], list[str]]:
        """Return the profiles that can be read, and what is wrong with the others or with their folder."""
        profiles, problems = [], []
        for store in store_names(self.stores_dir):
            try:
                profiles.append(self.profile(store))
            except Exception as error:  # noqa: BLE001 - whatever it is, the other stores go on
                problems.append(f"No DAG for store {store}: {error}")
        if not profiles and not problems:
            there = "holds no profile (*.yaml)" if self.stores_dir.is_dir() else "does not exist"
            problems.append(f"There is no store: the folder {self.stores_dir} {there}. Set SHELFKIN_STORES_DIR.")
        return profiles, problems

    def profile(self, store: str) -> StoreProfile:
        """Load one store's profile; raises ProfileError if there is none of that name."""
        path = self.stores_dir / f"{store}.yaml"
        # By the list: a name such as ../x would lead out of the folder.
        known = store_names(self.stores_dir)
        if store not in known:
            raise ProfileError(
                f"There is no store {store!r} in {self.stores_dir}; known stores: {', '.join(known) or 'none'}.",
                next_step=f"Check the spelling, or describe the shop in {path}.",
            )
        return load_profile(path)
