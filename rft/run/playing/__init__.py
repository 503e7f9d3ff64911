"""The environment, tools and episodes of a run."""
