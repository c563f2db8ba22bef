"""The frame of every Spark app: what its log lines may hold."""

from __future__ import annotations

import logging

import pytest

from shelfkin import app


def test_a_log_line_steers_no_terminal_and_forges_no_other(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", list(root.handlers))
    monkeypatch.setattr(root, "level", root.level)
    app._configure_logging()
    logging.getLogger("shelfkin").info("%s named %s", 3, "\x1b]0;x\x07Mugs\u202e\n00:00 shelfkin done")
    assert capsys.readouterr().out.endswith("shelfkin 3 named  ]0;x Mugs  00:00 shelfkin done\n")
