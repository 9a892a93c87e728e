#!/usr/bin/env bash
# Measures a loss surface in many processes, on one node or several, and merges it.
#
# On one node, a process for each GPU (without any, for each CPU core), or NPROC of them:
#
#     scripts/surface_torchrun.sh runs/kd-dot-* --x -1 1 101 --y -1 1 101
#     NPROC=4 scripts/surface_torchrun.sh --problem my_network:problem -o surface.h5
#
# On several nodes, in a folder that they share, the same line on each of them; HEAD is one of them, with a free port:
#
#     NNODES=2 HEAD=node0:29500 scripts/surface_torchrun.sh --problem my_network:problem -o surface.h5
#
# In a Slurm job of several nodes, once on each:
#
#     NNODES=$SLURM_NNODES HEAD=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -1):29500 \
#         srun --ntasks-per-node=1 scripts/surface_torchrun.sh --problem my_network:problem -o surface.h5
#
# A process that dies is started again with all the others, RESTARTS times (3). After that, or after Ctrl-C, the same
# command goes on where it was. The number of processes must stay the same: it is the number of parts.
#
# Of a run folder each process takes a GPU of its own; the function of --problem chooses its device itself:
# f"cuda:{os.environ['LOCAL_RANK']}".
set -euo pipefail

if [[ $# -eq 0 ]]; then
    echo "usage: [NPROC=k] [NNODES=n HEAD=host:port] $0 [options of dot-landscape surface]" >&2
    exit 2
fi
if [[ "${NNODES:-1}" == 1 ]]; then
    meeting=(--standalone)
elif [[ -n "${HEAD:-}" ]]; then
    meeting=(--nnodes="$NNODES" --rdzv-backend=c10d --rdzv-endpoint="$HEAD" --rdzv-id="${SLURM_JOB_ID:-surface}")
else
    echo "$0: NNODES=$NNODES needs HEAD=host:port, the address of a node. Got none." >&2
    exit 2
fi
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# A store for each attempt: in a shared one, processes that are started again would find the addresses of dead ones.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
exec torchrun "${meeting[@]}" --nproc-per-node="${NPROC:-auto}" --max-restarts="${RESTARTS:-3}" -m dot surface "$@"
