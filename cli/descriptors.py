"""Imported first by the entry point: descriptors 0, 1 and 2 are open from here on.

Where one of them is closed, the next file opened would get its number, and what we print.  That may be any library's:
libffi, which ctypes loads, keeps its own file open (src/tramp.c).
"""

import os

while (_fd := os.open(os.devnull, os.O_RDWR)) <= 2:
    os.set_inheritable(_fd, True)
os.close(_fd)
