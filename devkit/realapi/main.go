// realapi is a real kube-apiserver and a real etcd in one program, for tests: the role is its first argument.
//
// With FORGE_PARENT_PID in the environment it dies with that process: the kernel kills it when the parent's thread
// that started it ends, and it refuses to run when the parent was gone before that could be arranged.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

const parentVariable = "FORGE_PARENT_PID"

// init holds the main goroutine on the main thread: a parent-death signal belongs to the thread that asked for it.
func init() {
	runtime.LockOSThread()
}

func dieWithParent() error {
	text, given := os.LookupEnv(parentVariable)
	if !given {
		return nil
	}
	parent, err := strconv.Atoi(text)
	if err != nil {
		return fmt.Errorf("%s: %w", parentVariable, err)
	}
	_, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0)
	if errno != 0 {
		return fmt.Errorf("prctl(PR_SET_PDEATHSIG): %w", errno)
	}
	if os.Getppid() != parent {
		return fmt.Errorf("the parent %d is gone", parent)
	}
	return nil
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: realapi etcd|kube-apiserver [flags]")
		os.Exit(2)
	}
	if err := dieWithParent(); err != nil {
		fmt.Fprintln(os.Stderr, "realapi:", err)
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
