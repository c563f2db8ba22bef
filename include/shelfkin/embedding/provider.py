"""Who embeds: OpenAI, a compatible server, or the bundled model; which model, and under which name it is stored."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from shelfkin.artifacts import run_slug
from shelfkin.errors import OptionError
from shelfkin.profile import Embedding

KEY_VARIABLE = "OPENAI_API_KEY"
BASE_URL_VARIABLE = "OPENAI_BASE_URL"
OPENAI_URL = "https://api.openai.com/v1"
LOCAL_MODEL = "all-MiniLM-L6-v2-int8"
LOCAL_DIMENSIONS = 384

# Vector lengths of OpenAI's models when `dimensions` is left out (platform.openai.com/docs/guides/embeddings, 2026-11).
OPENAI_DIMENSIONS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072, "text-embedding-ada-002": 1536}


@dataclass(frozen=True)
class Provider:
    """Where texts are sent and where their vectors are kept. It never holds the key.

    Attributes
    ----------
    kind
        ``local`` (the bundled model), ``openai`` or ``compatible`` (any other base URL).
    base_url
        Where requests go; empty for ``local``.
    dimensions
        Length of the vectors; None: whatever the server's model returns.
    send_dimensions
        Whether the request asks for `dimensions`; many servers refuse the parameter.
    """

    kind: Literal["local", "openai", "compatible"]
    base_url: str
    model: str
    dimensions: int | None
    send_dimensions: bool

    @property
    def slug(self) -> str:
        """The provider's folder in the vector store."""
        if self.kind == "compatible":
            # Without user info and query: a path must not hold a credential.
            parts = urlsplit(self.base_url)
            return run_slug(f"{parts.scheme}-{parts.hostname}-{parts.port or ''}{parts.path.rstrip('/')}")
        return self.kind

    @property
    def model_slug(self) -> str:
        """The model's folder in the vector store."""
        return self.model if re.fullmatch(r"[A-Za-z0-9_-]{1,80}", self.model) else run_slug(self.model)

    @property
    def dimensions_slug(self) -> str:
        """The folder of the vector length; ``native`` where only the server knows it."""
        return "native" if self.dimensions is None else str(self.dimensions)

    @property
    def server(self) -> str:
        """Who answers, in a word for messages."""
        names = {"local": "the bundled model", "openai": "OpenAI"}
        return names.get(self.kind) or urlsplit(self.base_url).hostname or "the server"

    def request(self, texts: list[str]) -> dict[str, Any]:
        """Return the body of a request for the vectors of some texts."""
        sent = {"dimensions": self.dimensions} if self.send_dimensions and self.dimensions else {}
        return {"model": self.model, "input": texts, "encoding_format": "base64", **sent}

    def describe(self) -> str:
        """Return one line for the task log."""
        length = f"{self.dimensions} dimensions" if self.dimensions else "the model's own dimensions"
        cost = " (on this machine: no key, no cost)" if self.kind == "local" else ""
        return f"{self.server}, model {self.model}, {length}{cost}"


def choose_provider(
    section: Embedding,
    *,
    model: str | None = None,
    dimensions: int | None = None,
    env: Mapping[str, str] | None = None,
) -> Provider:
    """Return the provider of a run.

    OPENAI_BASE_URL names any compatible server (the key is optional then); otherwise OPENAI_API_KEY means OpenAI;
    with neither, or with the model ``local``, the bundled model embeds, whatever OpenAI model the profile names.

    Parameters
    ----------
    section
        The store profile's `embedding` section.
    model, dimensions
        The run's own choice; overrides the profile.

    Raises
    ------
    OptionError
        The run asks for an OpenAI model without a key, or for a vector length that the model can't give.
    """
    env = os.environ if env is None else env
    base_url, key = env.get(BASE_URL_VARIABLE, "").rstrip("/"), env.get(KEY_VARIABLE, "")
    chosen = model or section.model
    if chosen in ("local", LOCAL_MODEL) or not (base_url or key):
        if model is not None and chosen not in ("local", LOCAL_MODEL):
            raise OptionError(
                f"--model {chosen} needs a server, and neither {KEY_VARIABLE} nor {BASE_URL_VARIABLE} is set.",
                next_step=f"Set {KEY_VARIABLE}, or use --model local for the bundled model.",
            )
        if dimensions not in (None, LOCAL_DIMENSIONS):
            raise OptionError(
                f"--dimensions {dimensions}: the bundled model {LOCAL_MODEL} has {LOCAL_DIMENSIONS}.",
                next_step="Leave --dimensions out, or choose an OpenAI model.",
            )
        return Provider("local", "", LOCAL_MODEL, LOCAL_DIMENSIONS, False)
    wanted = dimensions
    if wanted is None and chosen == section.model:
        wanted = section.dimensions
    if base_url and base_url != OPENAI_URL:
        if not re.match(r"https?://[^/]", base_url):
            raise OptionError(f"{BASE_URL_VARIABLE} is not an http(s) URL.", next_step="Use e.g. http://host:8080/v1")
        return Provider("compatible", base_url, chosen, wanted, wanted is not None)
    native = OPENAI_DIMENSIONS.get(chosen)
    if wanted is not None and native is not None and wanted > native:
        raise OptionError(f"dimensions={wanted} exceeds the {native} of {chosen}.", next_step="Lower --dimensions.")
    return Provider("openai", OPENAI_URL, chosen, wanted or native, wanted is not None and wanted != native)
