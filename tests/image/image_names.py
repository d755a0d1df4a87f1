"""What the image under test is called, and what must not be found in it."""

TAG = "localhost/forge-manager:test"
PRIVATE_INDEX = "index-of-this-machine.invalid"
"""As if this machine's pip had one."""
