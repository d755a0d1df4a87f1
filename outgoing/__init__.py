"""HTTP to addresses outside of the pod, which the prober alone may reach, and how far that goes."""
