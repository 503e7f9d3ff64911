"""rft: reinforcement fine-tuning that people trust."""

__version__ = "0.1.0"
