"""Python steps in processes of their own: one that crashes, or hangs, takes its attempt with it and nothing else."""
