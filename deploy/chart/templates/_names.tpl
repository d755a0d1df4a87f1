{{- /* Names and labels. All are stable: nothing is random, nothing is looked up in a cluster. */ -}}

{{- define "forge.name" -}}
{{- .Values.fullnameOverride | default .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "forge.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "forge.fixedLabels" -}}
{{ include "forge.selector" . }}
app.kubernetes.io/version: {{ include "forge.asLabel" .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | include "forge.asLabel" }}
{{- end -}}

{{- /* A version may have a plus, as Flux gives to a chart from a git repository; a label, and an image's tag, may not. */ -}}
{{- define "forge.asLabel" -}}
{{- regexReplaceAll "[^a-zA-Z0-9]+$" (. | replace "+" "_" | trunc 63) "" -}}
{{- end -}}

{{- /* Whatever the operator says beside, the chart's own labels stay what they are: selectors go by them. */ -}}
{{- define "forge.labels" -}}
{{- merge (include "forge.fixedLabels" . | fromYaml) (.Values.commonLabels | default dict) | toYaml -}}
{{- end -}}

{{- /*
By which Lease these pods elect. Old and new pods of a rolling update exclude each other by that Lease alone, so it is part
of the StatefulSet's selector, which Kubernetes never changes: an update that would have them elect by two is refused.
*/ -}}
{{- define "forge.election" -}}
cardano.io/election: {{ include "forge.lease" . | sha256sum | trunc 10 | quote }}
{{- end -}}

{{- define "forge.podLabels" -}}
{{- $own := merge (dict "app" (include "forge.name" .)) (include "forge.selector" . | fromYaml) (include "forge.election" . | fromYaml) -}}
{{- merge $own (.Values.podLabels | default dict) (.Values.commonLabels | default dict) | toYaml -}}
{{- end -}}

{{- define "forge.metadata" -}}
name: {{ include "forge.name" . }}
namespace: {{ .Release.Namespace }}
labels: {{- include "forge.labels" . | nindent 2 }}
{{- end -}}

{{- /*
Of the pods' own Role and its binding. Helm writes Roles before the StatefulSet: by one name a refused update would have
taken the right to their Lease from the pods that run.
*/ -}}
{{- define "forge.role" -}}
{{ include "forge.name" . }}-{{ include "forge.lease" . | sha256sum | trunc 10 }}
{{- end -}}

{{- /* image, default tag */ -}}
{{- define "forge.image" -}}
{{- $image := index . 0 -}}
{{- $image.repository -}}:{{- $image.tag | default (index . 1 | replace "+" "_") -}}
{{- with $image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{- /* The names that the program makes of its configuration (config/variables.py): a test compares. */ -}}

{{- define "forge.pool" -}}
{{- .Values.network.name }}-{{ .Values.pool.id | default "" | trunc 10 -}}
{{- end -}}

{{- define "forge.lease" -}}
{{- $tenant := ternary (printf "cardano-leader-%s" (include "forge.pool" .)) "" (not (empty .Values.pool.id)) -}}
{{- .Values.election.leaseName | default $tenant | default "cardano-node-leader" -}}
{{- end -}}

{{- define "forge.leader" -}}
{{- $tenant := ternary (printf "cardano-leader-%s" (include "forge.pool" .)) "" (not (empty .Values.pool.id)) -}}
{{- .Values.election.leaderName | default $tenant | default "cardano-leader" -}}
{{- end -}}

{{- define "forge.lock" -}}
cardano-pool-{{ include "forge.pool" . }}
{{- end -}}

{{- define "forge.coordinationNamespace" -}}
{{- .Values.clusters.coordination.namespace | default .Release.Namespace -}}
{{- end -}}

{{- /* "true" where this cluster's own API server is one of those that hold the pool's lock */ -}}
{{- define "forge.ownCounts" -}}
{{- and .Values.clusters.enabled (has "own" .Values.clusters.coordination.servers) -}}
{{- end -}}

{{- /* "true" where kubeconfigs of other servers have to be mounted */ -}}
{{- define "forge.othersCount" -}}
{{- and .Values.clusters.enabled (ne (without (.Values.clusters.coordination.servers | default list) "own" | len) 0) -}}
{{- end -}}
