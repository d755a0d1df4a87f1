// Names the release of the Prometheus operator whose resource definitions the chart's tests use; nothing is built here.
module forge-manager/monitoring

go 1.26.0

require github.com/prometheus-operator/prometheus-operator v0.85.0
