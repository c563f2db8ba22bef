"""A driver that outlives Spark stops sending."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from py4j.protocol import Py4JNetworkError

from shelfkin.embedding.embedding_run import end_with_spark
from shelfkin.errors import EmbeddingUnavailableError
from virtual_time import run_in_virtual_time


def session(*answers: Any) -> Any:
    """A Spark session whose context is asked so often whether it has stopped."""
    left = list(answers)

    def is_stopped() -> bool:
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return bool(answer)

    context = SimpleNamespace(isStopped=is_stopped)
    return SimpleNamespace(sparkContext=SimpleNamespace(_jsc=SimpleNamespace(sc=lambda: context)))


@pytest.mark.parametrize("end", [True, ConnectionRefusedError(), Py4JNetworkError("Answer from Java side is empty")])
def test_the_run_ends_with_spark_and_may_be_tried_again(end: Any) -> None:
    with pytest.raises(EmbeddingUnavailableError, match="Spark has ended") as caught:
        run_in_virtual_time(lambda: end_with_spark(session(False, False, False, end)))
    assert caught.value.retryable
