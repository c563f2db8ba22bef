"""A server to rehearse an embedding load on before money is spent; `make rehearsal` and the drills start it."""
