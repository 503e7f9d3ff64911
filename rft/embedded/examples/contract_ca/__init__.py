"""Clauses of Canadian contracts: data and graders."""
