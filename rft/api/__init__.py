"""What `import rft` offers: one file for each function. `rft/__init__.py` imports a file when its function is used."""
