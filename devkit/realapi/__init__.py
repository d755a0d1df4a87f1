"""A real kube-apiserver and etcd for tests: built from Go modules, started on 127.0.0.1."""
