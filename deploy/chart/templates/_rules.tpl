{{- /*
The rules of a Role: what kube/rights.py says that the program asks of an API server, and nothing else (a test compares).
Arguments: root; pod: for a pod on its own server; region: for coordination, the region that comes, or empty.

A create carries its name in the body, not in the address, so it cannot be limited by resourceNames. (An update by PUT of
an object that is not there counts as a create too, and so does a server-side apply.)
*/ -}}
{{- define "forge.rules" -}}
{{- $group := .root.Values.crd.group -}}
{{- $leaders := .root.Values.crd.plural -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
- apiGroups: [{{ $group }}]
  resources:
    {{- if .pod }}
    - {{ $leaders }}
    {{- end }}
    {{- if .region }}
    - cardanoforgeclusters
    {{- end }}
  verbs: [create]
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- /* By list and watch with fieldSelector metadata.name=NAME: a request without that selector is refused. */}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames:
    {{- if .pod }}
    - {{ include "forge.lease" .root | quote }}
    {{- end }}
    {{- if .region }}
    - {{ include "forge.lock" .root }}
    {{- end }}
  verbs: [list, watch, update]
{{- if .pod }}
- apiGroups: [{{ $group }}]
  resources: [{{ $leaders }}]
  resourceNames: [{{ include "forge.leader" .root | quote }}]
  verbs: [get]
- apiGroups: [{{ $group }}]
  resources: [{{ $leaders }}/status]
  resourceNames: [{{ include "forge.leader" .root | quote }}]
  verbs: [patch]
{{- end }}
{{- if .region }}
{{- /* Which server this is: of the namespace that the Role is in, and no other. */}}
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get]
{{- /* All clusters of the pool, by their label, to which no Role can be limited; written is the own region's alone. */}}
- apiGroups: [{{ $group }}]
  resources: [cardanoforgeclusters]
  verbs: [list, watch]
- apiGroups: [{{ $group }}]
  resources: [cardanoforgeclusters]
  resourceNames: [{{ include "forge.pool" .root }}-{{ .region }}]
  verbs: [get, patch]
- apiGroups: [{{ $group }}]
  resources: [cardanoforgeclusters/status]
  resourceNames: [{{ include "forge.pool" .root }}-{{ .region }}]
  verbs: [patch]
{{- end }}
{{- end -}}
