"""The task that removes what a store's profile lets go, and erases customers wherever they are still found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.log import mask_secret

from shelfkin.artifacts import Root
from shelfkin.errors import ShelfkinError
from shelfkin.settings import Settings


class RetentionOperator(BaseOperator):
    """Prune one store by its profile's ``retention``, and complete the erasure of its erased customers.

    Parameters
    ----------
    store
        The store's slug.
    only
        Templated; another store's slug leaves this one alone, blank means all.
    """

    template_fields: Sequence[str] = ("only",)

    def __init__(self, *, store: str, only: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.store = store
        self.only = only

    def execute(self, context: Context) -> None:
        """Do it, and log what went."""
        if self.only not in ("", self.store):
            self.log.info("This run is about %s only", self.only)
            return
        from shelfkin.serving.forgetting import erase_again, told
        from shelfkin.serving.retention import keep

        settings = Settings.from_env()
        root, postgres = Root.at(settings.artifact_root), settings.publish_postgres
        if postgres is not None:
            mask_secret(postgres.url.get_secret_value())
        try:
            profile = settings.profile(self.store)
            lines = keep(root, self.store, profile.retention)
            lines += told(erase_again(root, profile, postgres))
        except ShelfkinError as error:
            if error.retryable:
                raise
            raise AirflowFailException(f"{self.task_id} failed ({error.kind}): {error}") from None
        for line in lines:
            self.log.info(line)
