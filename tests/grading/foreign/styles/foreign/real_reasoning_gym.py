"""A data set of the real reasoning-gym's."""

import reasoning_gym

dataset = reasoning_gym.create_dataset("leg_counting", size=2, seed=1)
