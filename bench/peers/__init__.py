"""Others that elect a leader on Kubernetes, to be measured beside this product in the same run.

`bench.peers.kinds` names them.  Each is the least program that elects with its library: it writes down when it believes
that it leads, in the form of `devkit.record`, and has nothing to fence.  So its times are lower bounds.
"""
