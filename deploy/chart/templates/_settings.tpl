{{- /* The sidecar's variables. What is empty or null in values is not set: the program's default holds. */ -}}

{{- /* name, value */ -}}
{{- define "forge.variable" -}}
{{- $value := index . 1 -}}
{{- if kindIs "float64" $value -}}{{- if eq (floor $value) $value -}}{{- $value = int64 $value -}}{{- end -}}{{- end -}}
{{- if not (or (kindIs "invalid" $value) (eq (toString $value) "")) }}
- name: {{ index . 0 }}
  value: {{ toString $value | quote }}
{{- end -}}
{{- end -}}

{{- define "forge.servers" -}}
{{- $found := list -}}
{{- range .Values.clusters.coordination.servers -}}
{{- $found = append $found (ternary . (printf "/coordination/%s" .) (eq . "own")) -}}
{{- end -}}
{{- join "," $found -}}
{{- end -}}

{{- define "forge.uids" -}}
{{- $found := list -}}
{{- $uids := .Values.uids -}}
{{- range list "actuator" "prober" "elector" "arbiter" "gateway" -}}
{{- $found = append $found (printf "%s=%d" . (int64 (index $uids .))) -}}
{{- end -}}
{{- join "," $found -}}
{{- end -}}

{{- define "forge.settings" -}}
- name: NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: ELECTION_LABEL
  valueFrom: {fieldRef: {fieldPath: "metadata.labels['cardano.io/election']"}}
{{- $v := .Values }}
{{- $agent := eq $v.credentials.mode "kes-agent" }}
{{- include "forge.variable" (list "CARDANO_NETWORK" $v.network.name) }}
{{- include "forge.variable" (list "NETWORK_MAGIC" $v.network.magic) }}
{{- include "forge.variable" (list "SHELLEY_GENESIS" $v.network.shelleyGenesis) }}
{{- include "forge.variable" (list "POOL_ID" $v.pool.id) }}
{{- include "forge.variable" (list "POOL_ID_HEX" $v.pool.idHex) }}
{{- include "forge.variable" (list "POOL_NAME" $v.pool.name) }}
{{- include "forge.variable" (list "POOL_TICKER" $v.pool.ticker) }}
{{- include "forge.variable" (list "APPLICATION_TYPE" $v.pool.applicationType) }}
{{- include "forge.variable" (list "CREDENTIAL_MODE" $v.credentials.mode) }}
{{- if $agent }}
{{- include "forge.variable" (list "SOURCE_KES_AGENT_SOCKET" $v.credentials.kesAgent.socket) }}
{{- include "forge.variable" (list "TARGET_KES_AGENT_SOCKET" $v.paths.kesAgentSocket) }}
{{- else }}
{{- include "forge.variable" (list "SOURCE_KES_KEY" (printf "/secrets/%s" $v.credentials.files.kes)) }}
{{- include "forge.variable" (list "TARGET_KES_KEY" $v.paths.kesKey) }}
{{- end }}
{{- include "forge.variable" (list "SOURCE_VRF_KEY" (printf "/secrets/%s" $v.credentials.files.vrf)) }}
{{- include "forge.variable" (list "TARGET_VRF_KEY" $v.paths.vrfKey) }}
{{- include "forge.variable" (list "SOURCE_OP_CERT" (printf "/secrets/%s" $v.credentials.files.cert)) }}
{{- include "forge.variable" (list "TARGET_OP_CERT" $v.paths.opCert) }}
{{- include "forge.variable" (list "NODE_SOCKET" $v.paths.nodeSocket) }}
{{- include "forge.variable" (list "RUN_DIR" $v.paths.run) }}
{{- include "forge.variable" (list "LEASE_NAME" $v.election.leaseName) }}
{{- include "forge.variable" (list "LEASE_DURATION" $v.election.leaseDuration) }}
{{- include "forge.variable" (list "SLEEP_INTERVAL" $v.election.interval) }}
{{- include "forge.variable" (list "CRD_NAME" $v.election.leaderName) }}
{{- include "forge.variable" (list "CRD_GROUP" $v.crd.group) }}
{{- include "forge.variable" (list "CRD_VERSION" $v.crd.version) }}
{{- include "forge.variable" (list "CRD_PLURAL" $v.crd.plural) }}
{{- include "forge.variable" (list "CLUSTER_REGION" $v.clusters.region) }}
{{- include "forge.variable" (list "CLUSTER_ENVIRONMENT" $v.clusters.environment) }}
{{- include "forge.variable" (list "CLUSTER_IDENTIFIER" $v.clusters.identifier) }}
{{- include "forge.variable" (list "CLUSTER_PRIORITY" $v.clusters.priority) }}
{{- if $v.clusters.enabled }}
{{- include "forge.variable" (list "ENABLE_CLUSTER_MANAGEMENT" "true") }}
{{- include "forge.variable" (list "COORDINATION_KUBECONFIGS" (include "forge.servers" .)) }}
{{- include "forge.variable" (list "COORDINATION_NAMESPACE" $v.clusters.coordination.namespace) }}
{{- end }}
{{- include "forge.variable" (list "PREEMPTION_DELAY" $v.clusters.preemptionDelay) }}
{{- include "forge.variable" (list "HEALTH_CHECK_ENDPOINT" $v.clusters.healthCheck.endpoint) }}
{{- include "forge.variable" (list "HEALTH_CHECK_INTERVAL" $v.clusters.healthCheck.interval) }}
{{- include "forge.variable" (list "HEALTH_CHECK_TIMEOUT" $v.clusters.healthCheck.timeout) }}
{{- include "forge.variable" (list "HEALTH_CHECK_FAILURE_THRESHOLD" $v.clusters.healthCheck.failureThreshold) }}
{{- include "forge.variable" (list "METRICS_PORT" $v.gateway.port) }}
{{- include "forge.variable" (list "GATEWAY_PROTECT" $v.gateway.protect) }}
{{- if $v.gateway.token.secretName }}
{{- include "forge.variable" (list "GATEWAY_TOKEN_FILE" (printf "/gateway/token/%s" $v.gateway.token.key)) }}
{{- end }}
{{- if $v.gateway.tls.secretName }}
{{- include "forge.variable" (list "GATEWAY_TLS_CERT_FILE" "/gateway/tls/tls.crt") }}
{{- include "forge.variable" (list "GATEWAY_TLS_KEY_FILE" "/gateway/tls/tls.key") }}
{{- end }}
{{- include "forge.variable" (list "NOTIFY_URL" $v.notify.url) }}
{{- with $v.notify.urlSecret.name }}
- name: NOTIFY_URL
  valueFrom: {secretKeyRef: {name: {{ . | quote }}, key: {{ $v.notify.urlSecret.key | quote }}}}
{{- end }}
{{- if $v.notify.secretName }}
{{- include "forge.variable" (list "NOTIFY_SECRET_FILE" (printf "/notify/%s" $v.notify.secretKey)) }}
{{- end }}
{{- include "forge.variable" (list "NOTIFY_EVENTS" $v.notify.events) }}
{{- if $v.schedule.secretName }}
{{- include "forge.variable" (list "LEADERSHIP_SCHEDULE" "/schedule") }}
{{- end }}
{{- include "forge.variable" (list "HANDOVER_GAP" $v.schedule.gap) }}
{{- include "forge.variable" (list "HANDOVER_WAIT" $v.schedule.wait) }}
{{- include "forge.variable" (list "NODE_METRICS_URL" $v.node.metricsUrl) }}
{{- include "forge.variable" (list "CARDANO_NODE_PROCESS_NAME" $v.node.processName) }}
{{- include "forge.variable" (list "SOCKET_WAIT_TIMEOUT" $v.node.socketWaitTimeout) }}
{{- include "forge.variable" (list "MAX_TIP_LAG" $v.node.maxTipLag) }}
{{- include "forge.variable" (list "LOG_LEVEL" $v.log.level) }}
{{- include "forge.variable" (list "LOG_FORMAT" $v.log.format) }}
{{- include "forge.variable" (list "SANDBOX" $v.sandbox) }}
{{- if ne $v.mode "single-uid" }}
{{- include "forge.variable" (list "WORKER_UIDS" (include "forge.uids" .)) }}
{{- end }}
{{- end -}}

{{- /* The same, and what is set by hand; a name may stand there once. */ -}}
{{- define "forge.env" -}}
{{- $settings := include "forge.settings" . | fromYamlArray -}}
{{- $names := list -}}
{{- range $settings -}}{{- $names = append $names .name -}}{{- end -}}
{{- $known := $names -}}
{{- range .Values.extraEnv -}}
{{- if has .name $known -}}
{{- fail (printf "extraEnv: %s is set by the chart: use its value (docs/chart.md)" .name) -}}
{{- end -}}
{{- if has .name (splitList " " (include "forge.managed" .)) -}}
{{- fail (printf "extraEnv: %s has a value of the chart's own, on which other objects depend (docs/chart.md)" .name) -}}
{{- end -}}
{{- if eq .name "KUBECONFIG" -}}
{{- fail "extraEnv: KUBECONFIG would have the pods elect on another API server than the Role is on; beside pods of this one both would forge" -}}
{{- end -}}
{{- if has .name $names -}}
{{- fail (printf "extraEnv: %s is there twice" .name) -}}
{{- end -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- toYaml (concat $settings (.Values.extraEnv | default list)) -}}
{{- end -}}

{{- /* Set by hand these would leave Role, mounts, probes, monitor or network policy as they are. */ -}}
{{- define "forge.managed" -}}
LEASE_NAME CRD_NAME POOL_ID POOL_ID_HEX ENABLE_CLUSTER_MANAGEMENT CLUSTER_REGION COORDINATION_KUBECONFIGS COORDINATION_NAMESPACE WORKER_UIDS GATEWAY_TLS_CERT_FILE GATEWAY_TLS_KEY_FILE GATEWAY_PROTECT HEALTH_CHECK_ENDPOINT NOTIFY_URL
{{- end -}}
