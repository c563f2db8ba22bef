"""Starts the rehearsal server from the project's folder.

    python -m rehearsal --rpm 3000 --tpm 1000000 --latency-s 0.5
    OPENAI_BASE_URL=http://127.0.0.1:<port>/v1 make run ...

``GET /account`` returns what it has billed and refused so far, ``POST /settings`` changes any setting while it runs.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
from contextlib import suppress

from rehearsal.server import HANG_S, Settings, running_rehearsal_server


def main(argv: list[str] | None = None) -> None:
    """Command line of the server."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--rpm", type=float, help="requests per minute; none: no limit")
    parser.add_argument("--tpm", type=float, help="tokens per minute; none: no limit")
    parser.add_argument("--burst-s", type=float, default=60.0, help="seconds' worth of quota that may come at once")
    parser.add_argument("--latency-s", type=float, default=0.0)
    parser.add_argument("--latency-s-per-1000-tokens", type=float, default=0.0)
    parser.add_argument("--dimensions", type=int, default=1536, help="vector length unless the request names one")
    parser.add_argument("--faults", type=json.loads, default={}, help='probabilities, as {"reset": 0.03, "html": 0.03}')
    parser.add_argument("--poison", help="texts that contain this are refused")
    parser.add_argument("--hang-s", type=float, default=HANG_S, help="how long the fault `hang` waits")
    flags = parser.parse_args(argv)
    settings = Settings(
        requests_per_minute=flags.rpm,
        tokens_per_minute=flags.tpm,
        burst_s=flags.burst_s,
        latency_s=flags.latency_s,
        latency_s_per_1000_tokens=flags.latency_s_per_1000_tokens,
        dimensions=flags.dimensions,
        faults=flags.faults,
        poison=flags.poison,
        hang_s=flags.hang_s,
    )
    with running_rehearsal_server(settings, host=flags.host, port=flags.port) as (_, base_url):
        sys.stdout.write(json.dumps({"base_url": base_url}) + "\n")
        sys.stdout.flush()
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
