#!/bin/bash
# Pretraining on two nodes of four GPUs; submit from the root of the repository: sbatch docs/slurm_example.sh
#SBATCH --job-name=gynbtnet_pretrain
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --mem=200G
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@300
#SBATCH --output=slurm-%j.log

set -euo pipefail

# the data set as `python -m scripts preprocess` wrote it, on a file system that all nodes see
DATA="${DATA:?set DATA to the folder that preprocess wrote}"
RUN="${RUN:-$PWD/runs/pretrain}"

source .venv/bin/activate
FIRST_NODE=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export OMP_NUM_THREADS=8

# five minutes before the time limit: back to the queue; training goes on after the last finished epoch
trap 'scontrol requeue "$SLURM_JOB_ID"' USR1

cd bundles/gynbtnet_pretrain
srun torchrun \
    --nnodes="$SLURM_NNODES" --nproc_per_node=4 \
    --rdzv_id="$SLURM_JOB_ID" --rdzv_backend=c10d --rdzv_endpoint="$FIRST_NODE:29500" \
    -m monai.bundle run \
    --config_file "['configs/train.json','configs/multi_gpu_train.json','$DATA/prepared.json']" \
    --dataset_dir "$DATA" --ckpt_dir "$RUN" --output_dir "$RUN" &
wait $!
