"""What runs in the sandboxed process before the program does: standard library only, nothing else of rft.

Every millisecond here is paid for each program, so none of these modules may import anything slow.
"""
