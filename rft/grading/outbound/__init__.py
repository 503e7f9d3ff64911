"""rft's graders for others: as a service, and as a reward function of TRL."""
