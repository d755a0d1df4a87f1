{{- /* What a schema cannot say: values that are right each for itself, but not together. */ -}}
{{- define "forge.checks" -}}
{{- $v := .Values -}}
{{- if and (eq $v.sidecar "native") (semverCompare "<1.29.0-0" .Capabilities.KubeVersion.Version) -}}
{{- fail (printf "sidecar: native needs Kubernetes 1.29, this is %s; set sidecar: plain" .Capabilities.KubeVersion.Version) -}}
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
