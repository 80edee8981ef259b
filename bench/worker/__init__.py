"""One side of one sample, in a process of its own: ``python -m bench.worker``.

The parent writes a :class:`~bench.worker.spec.Spec` as one line of JSON to standard
input.  The worker answers ``{"ready": ...}``, waits for ``go``, measures, and answers
with its figures.  A process each keeps the sides apart: event loop, heap and garbage
collector of one never bear on another.

Everything in here and in ``peers/`` that a peer's old environment imports also runs on
Python 3.8.
"""
