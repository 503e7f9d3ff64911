"""The functions of `import rft`, one file each. `rft/__init__.py` imports a file when its function is used."""
