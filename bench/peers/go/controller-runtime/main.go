// controller-runtime is an operator's manager with nothing to do but to lead: most operators written in Go elect so.
//
// It ends when it loses the lease, as managers do, and is then started anew by whoever runs it.
package main

import (
	"context"
	"os"

	"github.com/go-logr/logr/funcr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"forge-manager/peers/belief"
)

func main() {
	peer, ctx := belief.Begin()
	ctrl.SetLogger(funcr.New(func(prefix, args string) { os.Stderr.WriteString(prefix + " " + args + "\n") }, funcr.Options{}))
	lease, deadline, period := belief.LeaseDuration, belief.RenewDeadline, belief.RetryPeriod
	made, err := ctrl.NewManager(peer.Config, manager.Options{
		LeaderElection:                true,
		LeaderElectionID:              peer.Lease,
		LeaderElectionNamespace:       peer.Namespace,
		LeaderElectionReleaseOnCancel: true,
		LeaseDuration:                 &lease,
		RenewDeadline:                 &deadline,
		RetryPeriod:                   &period,
		Metrics:                       server.Options{BindAddress: "0"},
	})
	if err != nil {
		panic(err)
	}
	leads := manager.RunnableFunc(func(ctx context.Context) error {
		peer.Leads(true)
		<-ctx.Done()
		peer.Leads(false)
		return nil
	})
	if err := made.Add(leads); err != nil {
		panic(err)
	}
	if err := made.Start(ctx); err != nil {
		panic(err)
	}
}
