"""Decisions of the product, pure: no input, no output, no clock.

Time comes in as an argument, in nanoseconds of CLOCK_BOOTTIME unless a name says otherwise.  Nothing here
imports anything of ours but `ipc.messages` (the words the decisions are spoken in) and each other.
"""
