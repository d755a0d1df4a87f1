{{- /* What a schema cannot say: values that are right each for itself, but not together. */ -}}
{{- define "forge.checks" -}}
{{- $v := .Values -}}
{{- if and (eq $v.sidecar "native") (semverCompare "<1.29.0-0" .Capabilities.KubeVersion.Version) -}}
{{- fail (printf "sidecar: native needs Kubernetes 1.29, this is %s; set sidecar: plain" .Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- $name := include "forge.name" . -}}
{{- if and $v.workload.create (not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name)) -}}
{{- fail (printf "fullnameOverride: objects would be named %s, as no Service may be: set a name that begins with a letter and has no dot" $name) -}}
{{- end -}}
{{- /* As policy/timing.py has it: one renewal may be missed (a test compares). */ -}}
{{- $lease := $v.election.leaseDuration | default 15 | float64 -}}
{{- $longest := divf (subf (mulf $lease 0.99) 2.5) 2.0 -}}
{{- if gt ($v.election.interval | default 5 | float64) $longest -}}
{{- fail (printf "election.interval: must be at most %.4g with a leaseDuration of %.0f, so that one missed renewal does not stop forging" $longest $lease) -}}
{{- end -}}
{{- $magic := dict "mainnet" 764824073 "preprod" 1 "preview" 2 | dig $v.network.name nil -}}
{{- if and $magic (not (kindIs "invalid" $v.network.magic)) (ne (int64 $v.network.magic) (int64 $magic)) -}}
{{- fail (printf "network.magic: %s has %d; leave it out" $v.network.name $magic) -}}
{{- end -}}
{{- $told := false -}}
{{- range $v.extraEnv -}}
{{- if has .name (list "NETWORK_MAGIC" "SHELLEY_GENESIS") -}}{{- $told = true -}}{{- end -}}
{{- end -}}
{{- if not (or $magic $told $v.network.shelleyGenesis (not (kindIs "invalid" $v.network.magic))) -}}
{{- fail (printf "network.magic: is not known of %s; set it, or network.shelleyGenesis" $v.network.name) -}}
{{- end -}}
{{- if and .Chart.IsRoot (hasKey $v "enabled") -}}
{{- fail "enabled: is of a chart that has this one as its dependency (condition); here it is workload.create" -}}
{{- end -}}
{{- $uids := dict -}}
{{- range $worker, $uid := $v.uids -}}
{{- if hasKey $uids (toString (int64 $uid)) -}}
{{- fail (printf "uids.%s: is the user of another worker too; each needs its own" $worker) -}}
{{- end -}}
{{- $_ := set $uids (toString (int64 $uid)) $worker -}}
{{- end -}}
{{- range $name, $path := omit $v.paths "run" -}}
{{- if ne (dir $path) (dir $v.paths.nodeSocket) -}}
{{- fail (printf "paths.%s: must lie in the folder of paths.nodeSocket, %s" $name (dir $v.paths.nodeSocket)) -}}
{{- end -}}
{{- end -}}
{{- if and $v.pool.idHex (not $v.pool.id) -}}
{{- fail "pool.idHex: needs pool.id too: the names of Lease, lock and Role are made of that" -}}
{{- end -}}
{{- if and $v.notify.url $v.notify.urlSecret.name -}}
{{- fail "notify.url: set it or notify.urlSecret, not both" -}}
{{- end -}}
{{- if and (eq $v.gateway.protect "all") (not $v.gateway.token.secretName) -}}
{{- fail "gateway.protect: all protects nothing without gateway.token.secretName" -}}
{{- end -}}
{{- if and $v.clusters.coordination.accounts (not $v.pool.id) -}}
{{- fail "clusters.coordination.accounts: need pool.id, of which the names in their Roles are made" -}}
{{- end -}}
{{- if has $v.clusters.region $v.clusters.coordination.accounts -}}
{{- fail (printf "clusters.coordination.accounts: %s is this region itself; name the others" $v.clusters.region) -}}
{{- end -}}
{{- $taken := list "run" "ipc" "keys" "api-token" "config" "data" "coordination" "gateway-token" "gateway-tls" "notify-key" "schedule" "kes-agent" -}}
{{- range $v.extraVolumes -}}
{{- if has .name $taken -}}
{{- fail (printf "extraVolumes: %s is a volume of the chart's own; take another name" .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
