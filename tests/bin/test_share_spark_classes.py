"""Java's archive of Spark's classes: used where it is there, never needed."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from shelfkin import spark_submit
from shelfkin.settings import Settings

SCRIPT = Path(__file__).resolve().parents[2] / "bin" / "share_spark_classes.py"


def options() -> list[str]:
    return shlex.split(Settings.from_env({}).spark_conf["spark.driver.extraJavaOptions"])


def test_without_an_archive_there_is_no_word_of_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(spark_submit, "SPARK_CLASSES", tmp_path / "none.jsa")
    assert options() == shlex.split(spark_submit.DRIVER_JAVA_OPTIONS)


@pytest.mark.parametrize("folder", ["plain", "with a space"])
def test_java_does_without_a_damaged_archive_and_says_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: str
) -> None:
    archive = tmp_path / folder / "spark-classes.jsa"
    archive.parent.mkdir()
    archive.write_bytes(b"no archive" * 100)
    monkeypatch.setattr(spark_submit, "SPARK_CLASSES", archive)
    assert f"-XX:SharedArchiveFile={archive}" in options()
    done = subprocess.run(["java", *options(), "-version"], capture_output=True, text=True, timeout=60, check=True)
    assert "warning" not in (done.stdout + done.stderr).lower()


def test_what_the_user_sets_wins() -> None:
    conf = Settings.from_env({"SHELFKIN_SPARK_CONF": '{"spark.driver.extraJavaOptions": "-Xss4m"}'}).spark_conf
    assert conf["spark.driver.extraJavaOptions"] == "-Xss4m"


def test_an_archive_that_cannot_be_made_is_no_failure(tmp_path: Path) -> None:
    # A Spark that ends with an error, first on the path of an installation of its own.
    (tmp_path / "bin").mkdir()
    python, submit = tmp_path / "bin" / "python", tmp_path / "bin" / "spark-submit"
    python.symlink_to(sys.executable)
    submit.write_text("#!/bin/sh\necho 'no heap left' >&2\nexit 3\n")
    submit.chmod(0o755)
    code = f"""
import runpy, sys
from pathlib import Path
import shelfkin.spark_submit as spark_submit
spark_submit.SPARK_CLASSES = Path({str(tmp_path)!r}) / "share" / "spark-classes.jsa"
sys.executable = {str(python)!r}
runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert "a little slower" in done.stdout
    assert "no heap left" in done.stdout
    assert not list((tmp_path / "share").iterdir())
