"""Vectors for texts: what the vector store lacks is sent to a server from the driver, at the pace of a key's quota.

What a run needs: `texts` (what is missing), `splitting`, `tokens`, `provider`, `prices`; `embedding_run` puts it
together.
Sending: `sender`, by `packing`, `admission` (`quota`, `rate_headers`, `concurrency`), `client`, `answers`, `failures`,
`server_errors`, `retry_policy` and `progress`; or in batches: `batch_api`, `batch_records`.
What is kept: `vector_store`, `compaction`; `journal` and `ledger` for the account.
The bundled model: `minilm`, asked through `local_client`.
"""
