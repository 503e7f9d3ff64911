"""Code that runs in the sandboxed process before the program: standard library only, no other module of rft.

Each program pays for every millisecond of it, so none of these modules may have slow imports.
"""
