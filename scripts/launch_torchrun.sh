#!/usr/bin/env bash
# Train on one machine in several processes, started again where one of them dies.
#
#   scripts/launch_torchrun.sh PROCESSES --config experiments/language_model/embedded.yaml [options of hybridgen fit]
#
# PROCESSES is the number of GPUs, or of processes on a CPU. A step is of PROCESSES times data.batch_size.
# After a failure all processes start again, at most RESTARTS times (3), and go on from the last checkpoint.
set -euo pipefail
if [[ $# -lt 2 || ! $1 =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: $0 PROCESSES [options of hybridgen fit]" >&2
  exit 2
fi
processes=$1
shift
# A meeting place of its own for each start: the shared one still holds the addresses of the processes before.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
exec torchrun --standalone --nproc_per_node "$processes" --max_restarts "${RESTARTS:-3}" \
  -m hybridgen fit --resume auto "$@"
