"""srun: Sequential Recommender UNlearning."""

__version__ = "0.1.0"
