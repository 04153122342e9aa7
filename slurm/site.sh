# shellcheck shell=bash disable=SC2034
# What a site edits. The other files of this folder read it on the first node of a job; what is exported reaches all ranks.

# The program: a name found in PATH, or a path.
shardq=${SHARDQ:-shardq}

# What puts it there, for instance:
# module load gcc openmpi hdf5-parallel cuda nccl

# srun, or mpirun (Open MPI, which asks Slurm for its nodes). srun needs Slurm's PMIx plugin: `srun --mpi=list`.
launcher=${SHARDQ_LAUNCHER:-srun}
srun_options=(--mpi=pmix)
mpirun_options=(--bind-to none)

# By Slurm's own choice ranks of several nodes can leave the barrier at their start before the others have come to it, which then
# crash (seen with Slurm 22.05); the barrier along a ring holds them.
export SLURM_PMIX_FENCE=${SLURM_PMIX_FENCE:-ring}

# How often a job is put back into the queue after ranks were lost (a node or a link went, a rank was killed). A job that
# stops before its time limit is put back without counting. The job's comment in Slurm has the count.
retries=${SHARDQ_RETRIES:-3}

# NCCL and UCX: the interfaces that join the nodes. Left alone they choose for themselves.
# export NCCL_SOCKET_IFNAME=ib0 NCCL_IB_HCA=mlx5
# export UCX_NET_DEVICES=mlx5_0:1
# export OMPI_MCA_btl_tcp_if_include=ib0

# mpirun hears of a node that fell silent after a minute instead of eight.
export OMPI_MCA_oob_tcp_keepalive_time=30 OMPI_MCA_oob_tcp_keepalive_intvl=10 OMPI_MCA_oob_tcp_keepalive_probes=3
