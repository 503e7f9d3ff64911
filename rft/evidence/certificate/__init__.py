"""Signed certificates of results: what they list, how they are signed, and how a receiver checks them."""
