// client-go is the least that client-go's leader election can be: it leads, and writes down when.
//
// It has no node to fence, so the moment it stops leading is the moment it believes so.
package main

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"forge-manager/peers/belief"
)

func main() {
	peer, ctx := belief.Begin()
	client := kubernetes.NewForConfigOrDie(peer.Config)
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Name: peer.Lease, Namespace: peer.Namespace},
			Client:     client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: peer.Name},
		},
		LeaseDuration:   belief.LeaseDuration,
		RenewDeadline:   belief.RenewDeadline,
		RetryPeriod:     belief.RetryPeriod,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) { peer.Leads(true) },
			OnStoppedLeading: func() { peer.Leads(false) },
		},
	})
	if err != nil {
		panic(err)
	}
	for ctx.Err() == nil {
		elector.Run(ctx)
	}
}
