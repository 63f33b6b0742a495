#!/usr/bin/env bash
# Train on several machines that no scheduler manages: run the same line on every one of them.
#
#   scripts/launch_nodes.sh NODES PROCESSES HOST:PORT --config FILE [options of hybridgen fit]
#
# PROCESSES is that of each node; HOST:PORT is a free port of one of the nodes, the same on all. The folder of the runs
# must be one that all nodes share. Where a process or a node dies, all start again, at most RESTARTS times (3), and go
# on from the last checkpoint. RUN names this training where HOST:PORT serves several.
set -euo pipefail
if [[ $# -lt 4 || ! $1 =~ ^[1-9][0-9]*$ || ! $2 =~ ^[1-9][0-9]*$ || ! $3 =~ ^.+:[0-9]+$ ]]; then
  echo "usage: $0 NODES PROCESSES HOST:PORT [options of hybridgen fit]" >&2
  exit 2
fi
nodes=$1 processes=$2 endpoint=$3
shift 3
# A meeting place of its own for each start: the shared one still holds the addresses of the processes before.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
exec torchrun --nnodes "$nodes" --nproc_per_node "$processes" --max_restarts "${RESTARTS:-3}" \
  --rdzv_backend c10d --rdzv_endpoint "$endpoint" --rdzv_id "${RUN:-hybridgen}" \
  -m hybridgen fit --resume auto "$@"
