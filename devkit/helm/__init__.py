"""Helm for the chart's tests: built from Go modules, and asked for manifests."""
