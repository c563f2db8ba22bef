"""What a JVM that crashes leaves behind."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from pathlib import Path

import pyspark
import pytest

pytestmark = pytest.mark.spark

KEY = "sk-proj-PLANTED0123456789"


def test_the_report_of_a_crash_holds_no_key(tmp_path: Path) -> None:
    gateway = next((Path(pyspark.__file__).parent / "jars").glob("py4j-*.jar"))
    java = Path(os.environ["JAVA_HOME"], "bin", "java") if "JAVA_HOME" in os.environ else Path("java")
    process = subprocess.Popen(
        [str(java), f"-XX:ErrorFile={tmp_path}/hs_err", "-cp", str(gateway), "py4j.GatewayServer", "0"],
        env={
            **os.environ,
            "OPENAI_API_KEY": KEY,
            "SHELFKIN_PUBLISH_POSTGRES": f"postgresql://shop:{KEY}@127.0.0.1/shop",
        },
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
    )
    assert process.stdout is not None
    process.stdout.readline()  # its port: it runs
    process.send_signal(signal.SIGSEGV)
    said, _ = process.communicate(timeout=60)
    report = (tmp_path / "hs_err").read_bytes()
    assert b"Environment Variables" in report and b"SIGSEGV" in report
    assert KEY.encode() not in report + said
