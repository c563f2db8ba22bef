"""An OpenAI-compatible embedding endpoint over the bundled model, on a loopback port.

Run it by hand with ``python -m shelfkin.embedding.local_endpoint --port 8081``; it prints one JSON line with its
address once it answers. `running_local_endpoint` is what the stage uses.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import logging
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol

import httpx
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shelfkin.embedding.minilm import Embedded, MiniLM
from shelfkin.embedding.provider import KEY_VARIABLE, LOCAL_DIMENSIONS, LOCAL_MODEL
from shelfkin.errors import EmbeddingUnavailableError

log = logging.getLogger("shelfkin.embedding")

_MAX_INPUTS = 2048  # as OpenAI's
_MAX_BODY_BYTES = 64 * 2**20
_STOP_GRACE_S = 5.0


class Model(Protocol):
    """What the endpoint needs from a model."""

    def embed(self, texts: list[str]) -> Embedded:
        """Return one vector per text and the tokens used."""


class _RefusedError(Exception):
    """A request that is answered with an error in OpenAI's format."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code

    def response(self) -> Response:
        error = {"message": str(self), "type": "invalid_request_error", "param": self.param, "code": self.code}
        return JSONResponse({"error": error}, status_code=self.status)


def create_app(model: Model) -> Starlette:
    """Return the ASGI app: POST /v1/embeddings, GET /v1/models, GET /health."""
    # One request at a time: it already uses all threads, and two at once only fight for the caches.
    worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inference")

    async def embeddings(request: Request) -> Response:
        try:
            wanted = _parse(await request.body())
        except _RefusedError as refused:
            return refused.response()
        texts, encoding_format = wanted
        found = await asyncio.get_running_loop().run_in_executor(worker, model.embed, texts)
        content = {
            "object": "list",
            "model": LOCAL_MODEL,
            "data": [
                {"object": "embedding", "index": index, "embedding": _encoded(vector, encoding_format)}
                for index, vector in enumerate(found.vectors)
            ],
            "usage": {"prompt_tokens": found.n_tokens, "total_tokens": found.n_tokens},
        }
        return Response(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")

    async def models(_request: Request) -> Response:
        entry = {"id": LOCAL_MODEL, "object": "model", "created": 0, "owned_by": "shelfkin"}
        return JSONResponse({"object": "list", "data": [entry]})

    async def health(_request: Request) -> Response:
        return JSONResponse({"status": "ok", "model": LOCAL_MODEL, "dimensions": LOCAL_DIMENSIONS})

    return Starlette(
        routes=[
            Route("/v1/embeddings", embeddings, methods=["POST"]),
            Route("/v1/models", models),
            Route("/health", health),
        ]
    )


def _encoded(vector: Any, encoding_format: str) -> Any:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode() if encoding_format == "base64" else vector


def _parse(body: bytes) -> tuple[list[str], str]:
    """Return the texts and the encoding of a request; raises _RefusedError as OpenAI's API would refuse it."""
    if len(body) > _MAX_BODY_BYTES:
        raise _RefusedError(413, f"The body has {len(body)} bytes; the limit is {_MAX_BODY_BYTES}.")
    try:
        wanted = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _RefusedError(400, f"The body is not valid JSON: {error}") from None
    if not isinstance(wanted, dict):
        raise _RefusedError(400, "The body is not a JSON object.")
    if wanted.get("model") != LOCAL_MODEL:
        message = f"The model {str(wanted.get('model'))[:80]!r} does not exist; this endpoint has {LOCAL_MODEL!r}."
        raise _RefusedError(404, message, "model", "model_not_found")
    if wanted.get("dimensions") not in (None, LOCAL_DIMENSIONS):
        raise _RefusedError(400, f"This model has {LOCAL_DIMENSIONS} dimensions and no others.", "dimensions")
    encoding_format = wanted.get("encoding_format") or "float"
    if encoding_format not in ("float", "base64"):
        raise _RefusedError(400, "encoding_format is 'float' or 'base64'.", "encoding_format")
    return _texts(wanted.get("input")), encoding_format


def _texts(given: Any) -> list[str]:
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise _RefusedError(400, "input is a string or a list of strings; this endpoint takes no token ids.", "input")
    if not 0 < len(texts) <= _MAX_INPUTS:
        raise _RefusedError(400, f"input holds {len(texts)} texts; the limits are 1 and {_MAX_INPUTS}.", "input")
    if not all(texts):
        raise _RefusedError(400, "input must not hold an empty string.", "input")
    return texts


@contextmanager
def running_local_endpoint(start_timeout_s: float = 60.0) -> Iterator[str]:
    """Start the endpoint as a child process, yield its base URL (ending in /v1), and stop it in any case.

    The child also ends when its standard input does, so that it never outlives a parent that was killed.

    Raises
    ------
    EmbeddingUnavailableError
        It didn't answer within `start_timeout_s`.
    """
    # The child must import what this process imports (a zip on the path, for instance), and has no use for the key.
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    env.pop(KEY_VARIABLE, None)
    child = subprocess.Popen(
        [sys.executable, "-m", "shelfkin.embedding.local_endpoint", "--port", "0", "--stop-with-stdin"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=env,
    )
    try:
        yield _await_address(child, start_timeout_s)
    finally:
        _stop(child)


def _await_address(child: subprocess.Popen[bytes], timeout_s: float) -> str:
    deadline = time.monotonic() + timeout_s
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    # A pipe has no read with a deadline on every platform; a thread that reads one line has.
    threading.Thread(target=lambda: lines.put(child.stdout.readline() if child.stdout else b""), daemon=True).start()
    try:
        line = lines.get(timeout=timeout_s)
        base_url = str(json.loads(line)["base_url"])
        while time.monotonic() < deadline:
            try:
                # trust_env=False: a proxy of the environment must not be asked for a loopback address.
                if httpx.get(f"{base_url.removesuffix('/v1')}/health", timeout=5, trust_env=False).status_code == 200:
                    return base_url
            except httpx.TransportError:
                time.sleep(0.05)
    except (queue.Empty, ValueError, KeyError):
        pass
    raise EmbeddingUnavailableError(
        f"The bundled embedding endpoint did not answer within {timeout_s:.0f} s (exit status {child.poll()}).",
        next_step="Read its output above; try `python -m shelfkin.embedding.local_endpoint` by hand.",
    )


def _stop(child: subprocess.Popen[bytes]) -> None:
    if child.stdin:
        child.stdin.close()
    try:
        child.wait(timeout=_STOP_GRACE_S + 1)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    finally:
        if child.stdout:
            child.stdout.close()


def serve(host: str, port: int, *, n_threads: int = 2, stop_with_stdin: bool = False) -> None:
    """Serve until stopped; print ``{"base_url": ..., "pid": ...}`` once the model is loaded and the port is open."""
    app = create_app(MiniLM(n_threads))
    listener = socket.create_server((host, port))
    address = f"http://{host}:{listener.getsockname()[1]}/v1"
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    if stop_with_stdin:
        threading.Thread(target=_stop_at_end_of_stdin, args=(server,), daemon=True).start()
    sys.stdout.write(json.dumps({"base_url": address, "pid": os.getpid()}) + "\n")
    sys.stdout.flush()
    server.run(sockets=[listener])


def _stop_at_end_of_stdin(server: uvicorn.Server) -> None:
    sys.stdin.buffer.read()
    server.should_exit = True
    time.sleep(_STOP_GRACE_S)
    os._exit(0)  # a request still computes for a parent that is gone


def main(argv: list[str] | None = None) -> None:
    """Command line of the endpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--threads", type=int, default=2, help="threads of one inference")
    parser.add_argument("--stop-with-stdin", action="store_true", help="end when standard input does")
    flags = parser.parse_args(argv)
    serve(flags.host, flags.port, n_threads=flags.threads, stop_with_stdin=flags.stop_with_stdin)


if __name__ == "__main__":
    main()
