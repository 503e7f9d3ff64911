"""Clients of grading services: models behind OpenAI's API, and JSON over HTTP."""
