"""``python -m srun``: what the console script ``srun`` does, for torchrun and others that start modules."""

from srun.cli import main

main()
