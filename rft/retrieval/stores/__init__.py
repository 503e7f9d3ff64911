"""The stores of passages: one file for each kind."""
