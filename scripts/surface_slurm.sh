#!/usr/bin/env bash
#SBATCH --job-name=surface
#SBATCH --output=%x-%j.log
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --time=04:00:00
#SBATCH --requeue
#
# Measures a loss surface in a Slurm array, and merges it when every task is done. In a folder that all nodes share:
#
#     PARTS=16 scripts/surface_slurm.sh surface.h5 runs/kd-dot-* --x -1 1 101 --y -1 1 101
#     PARTS=16 scripts/surface_slurm.sh surface.h5 --problem my_network:problem --x -1 1 101 --y -1 1 101
#
# It does not split the data: with --data-shard, submit and merge by hand.
#
# First the file to write, then what `dot-landscape surface` takes. More for sbatch goes into SBATCH_OPTIONS, such as
# SBATCH_OPTIONS="--partition=gpu --gres=gpu:1 --time=1-0"; the environment (venv, modules) is that of the caller.
#
# The same command again measures what is missing: a task that was killed goes on where it was, one that is done reads
# its data and evaluates one batch. The number of PARTS must stay the same.
set -euo pipefail

if [[ -z "${SURFACE_STEP:-}" ]]; then # called by a person, not by Slurm
    if [[ $# -lt 2 || "$1" != *.h5 ]]; then
        echo "usage: PARTS=n $0 OUTPUT.h5 (RUN | --problem module:function) [options of dot-landscape surface]" >&2
        exit 2
    fi
    export PARTS="${PARTS:-8}"
    read -ra options <<<"${SBATCH_OPTIONS:-}"
    submit=(sbatch --parsable --export=ALL "${options[@]}")
    array=$(SURFACE_STEP=measure "${submit[@]}" --array="0-$((PARTS - 1))" "$0" "$@")
    array=${array%%;*} # "id;cluster" where there are several clusters
    # afterok: all tasks of the array. Should one fail, this job is dropped, and the same command goes on.
    merge=$(SURFACE_STEP=merge "${submit[@]}" --dependency="afterok:$array" --kill-on-invalid-dep=yes "$0" "$@")
    echo "measuring in job $array, merging in job ${merge%%;*}"
    exit 0
fi

out=$1
shift
if [[ "$SURFACE_STEP" == measure ]]; then
    export OMP_NUM_THREADS="${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}"
    # Said, though an array is found by itself: with one task of it submitted alone, that would be part 0 of 1.
    exec dot-landscape surface "$@" -o "$out" --shard "$SLURM_ARRAY_TASK_ID/$PARTS"
fi

parts=()
for ((i = 0; i < PARTS; i++)); do
    parts+=("${out%.h5}.shard-$i-of-$PARTS.h5") # no pattern, so that a part that is missing is named
done
if [[ -e "$out" && -z "$(compgen -G "${out%.h5}.shard-*-of-$PARTS.h5")" ]]; then
    echo "$out is merged already"
    exit 0
fi
dot-landscape merge "${parts[@]}" -o "$out"
rm -f "${parts[@]}" "${out%.h5}.plan.json"
