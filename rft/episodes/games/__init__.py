"""Environments that ship with rft."""
