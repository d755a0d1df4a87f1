// peer is the least that client-go's leader election can be: it leads, and writes down when.
//
// It has no node to fence, so the moment it stops leading is the moment it believes so.  Its record has the form of
// devkit.record: JSON lines with t in nanoseconds of CLOCK_MONOTONIC, "on" and "off", and "slot" while it leads.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

func monotonic() int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic(err)
	}
	return now.Nano()
}

func main() {
	kubeconfig := flag.String("kubeconfig", "", "")
	name := flag.String("name", "", "")
	namespace := flag.String("namespace", "default", "")
	lease := flag.String("lease", "peer", "")
	path := flag.String("record", "", "")
	flag.Parse()
	// Its end with the thread that started it is the kernel's business, as for everything the dev kit starts.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0, 0, 0); err != nil {
		panic(err)
	}
	record, err := os.OpenFile(*path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		panic(err)
	}
	note := func(event string) {
		fmt.Fprintf(record, "{\"t\": %d, \"event\": %q, \"node\": %q}\n", monotonic(), event, *name)
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		panic(err)
	}
	client := kubernetes.NewForConfigOrDie(config)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var leading atomic.Bool
	go func() {
		for range time.Tick(50 * time.Millisecond) {
			if leading.Load() {
				note("slot")
			}
		}
	}()
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Name: *lease, Namespace: *namespace},
			Client:     client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: *name},
		},
		LeaseDuration:   15 * time.Second,
		RenewDeadline:   10 * time.Second,
		RetryPeriod:     2 * time.Second,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) { leading.Store(true); note("on") },
			OnStoppedLeading: func() {
				if leading.Swap(false) {
					note("off")
				}
			},
		},
	})
	if err != nil {
		panic(err)
	}
	note("start")
	for ctx.Err() == nil {
		elector.Run(ctx)
	}
}
