"""The worked examples: data with its card, and graders that the built-in ones do not replace. See docs/examples."""
