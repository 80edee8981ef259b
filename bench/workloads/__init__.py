"""What is measured: one workload a module, listed here in the order of a run."""

from bench.workloads.cluster import CLUSTER
from bench.workloads.handoff import HANDOFF
from bench.workloads.herd import HERD
from bench.workloads.hot import HOT
from bench.workloads.ledger import LEDGER
from bench.workloads.limit import LIMIT
from bench.workloads.quorum import QUORUM
from bench.workloads.renewal import RENEWAL
from bench.workloads.reuse import REUSE
from bench.workloads.seed import SEED
from bench.workloads.siblings import SIBLINGS
from bench.workloads.throughput import THROUGHPUT

WORKLOADS = {
    each.name: each
    for each in (
        *(SEED, THROUGHPUT, REUSE, LEDGER, HOT, HANDOFF, HERD),
        *(RENEWAL, LIMIT, QUORUM, CLUSTER, SIBLINGS),
    )
}
