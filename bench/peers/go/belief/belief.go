// Package belief writes down when this program believes that it leads, in the form of devkit.record: JSON lines with t
// in nanoseconds of CLOCK_MONOTONIC, and "start", "on" and "off".  Whoever reaps the program adds "exit".
package belief

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// The settings that all peers share, as far as they have them; what Kubernetes' own components have by default.
const (
	LeaseDuration = 15 * time.Second
	RenewDeadline = 10 * time.Second
	RetryPeriod   = 2 * time.Second
)

// Peer is what every program here was told, and its record.
type Peer struct {
	Name      string
	Namespace string
	Lease     string
	Config    *rest.Config

	mutex   sync.Mutex
	leading bool
	record  *os.File
}

// Begin reads the arguments and starts the record; the context ends with SIGTERM.  It panics where it cannot.
func Begin() (*Peer, context.Context) {
	// A flag set of its own: controller-runtime has put flags of the same names into the common one.
	flags := flag.NewFlagSet("peer", flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "")
	name := flags.String("name", "", "")
	namespace := flags.String("namespace", "default", "")
	lease := flags.String("lease", "peer", "")
	path := flags.String("record", "", "")
	flags.Parse(os.Args[1:])
	record, err := os.OpenFile(*path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		panic(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		panic(err)
	}
	ctx, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	peer := &Peer{Name: *name, Namespace: *namespace, Lease: *lease, Config: config, record: record}
	peer.note("start")
	return peer, ctx
}

// Leads notes that leading began or ended; said twice it counts once.
func (peer *Peer) Leads(now bool) {
	peer.mutex.Lock()
	defer peer.mutex.Unlock()
	if peer.leading == now {
		return
	}
	peer.leading = now
	if now {
		peer.note("on")
	} else {
		peer.note("off")
	}
}

func (peer *Peer) note(event string) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic(err)
	}
	fmt.Fprintf(peer.record, "{\"t\": %d, \"event\": %q, \"node\": %q}\n", now.Nano(), event, peer.Name)
}
