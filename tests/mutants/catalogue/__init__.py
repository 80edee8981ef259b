"""All planted bugs, by the rooms of the package."""

from tests.mutants.catalogue import connection, core, leases, lingering, lua, quorum, waiting

MUTANTS = (
    *core.MUTANTS,
    *lua.MUTANTS,
    *connection.MUTANTS,
    *waiting.MUTANTS,
    *leases.MUTANTS,
    *lingering.MUTANTS,
    *quorum.MUTANTS,
)
