// realapi is a real kube-apiserver and a real etcd in one program, for tests: the role is its first argument.
package main

import (
	"fmt"
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: realapi etcd|kube-apiserver [flags]")
		os.Exit(2)
	}
	switch role := os.Args[1]; role {
	case "etcd":
		etcdmain.Main(os.Args[1:])
	case "kube-apiserver":
		os.Args = os.Args[1:]
		os.Exit(cli.Run(app.NewAPIServerCommand()))
	default:
		fmt.Fprintf(os.Stderr, "realapi: unknown role %q\n", role)
		os.Exit(2)
	}
}
