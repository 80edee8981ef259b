"""All planted bugs, by the rooms of the package."""

from tests.mutants.catalogue import (
    connection,
    core,
    election,
    leases,
    lingering,
    lua,
    once,
    quorum,
    readwrite,
    semaphore,
    together,
    waiting,
)

MUTANTS = (
    *core.MUTANTS,
    *lua.MUTANTS,
    *connection.MUTANTS,
    *waiting.MUTANTS,
    *leases.MUTANTS,
    *lingering.MUTANTS,
    *quorum.MUTANTS,
    *once.MUTANTS,
    *election.MUTANTS,
    *together.MUTANTS,
    *readwrite.MUTANTS,
    *semaphore.MUTANTS,
)
