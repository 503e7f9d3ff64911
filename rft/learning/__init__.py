"""Learning: advantages, trainers, the seam with TRL, and publications of the policy."""
