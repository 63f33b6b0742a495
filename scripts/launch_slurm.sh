#!/usr/bin/env bash
# Train under SLURM: one task for each GPU.
#
#   sbatch --nodes 2 --ntasks-per-node 4 --gres gpu:4 scripts/launch_slurm.sh --config FILE [options of hybridgen fit]
#
# The folder of the runs must be one that all nodes share. 90 seconds before its time is up, and where it is preempted,
# the job's processes are told to end: the run is saved and the job queued again, which then goes on from there. Set the
# environment up before (a module, or `source .venv/bin/activate`): jobs inherit it.
#SBATCH --job-name hybridgen
#SBATCH --cpus-per-task 4
#SBATCH --time 12:00:00
#SBATCH --signal TERM@90
#SBATCH --requeue
#SBATCH --open-mode append
#SBATCH --output slurm-%j.out
set -euo pipefail
if [[ -z ${SLURM_NTASKS_PER_NODE:-} || $# -lt 1 ]]; then
  echo "usage: sbatch --nodes N --ntasks-per-node M $0 [options of hybridgen fit]" >&2
  exit 2
fi
code=0
srun --kill-on-bad-exit=1 hybridgen fit --resume auto \
  --trainer.num_nodes "$SLURM_NNODES" --trainer.devices "$SLURM_NTASKS_PER_NODE" "$@" || code=$?
if [[ $code -eq 143 ]]; then # saved after a signal, and not finished
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
