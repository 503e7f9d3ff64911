"""Evidence computed from recorded runs: comparisons of what they measured."""
