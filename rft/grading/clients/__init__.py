"""Clients of services that grade: models behind OpenAI's API, and plain HTTP."""
