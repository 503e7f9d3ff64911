"""Learning: the trainers, the seam with TRL, and the publishing of a new policy."""
