"""Workers on SLURM: tasks of job arrays, which exchange files with the driver."""
