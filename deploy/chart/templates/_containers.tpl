{{- /* The sidecar's containers: one, or one for each worker. */ -}}

{{- define "forge.manager" -}}
- name: forge-manager
  {{- include "forge.common" . | nindent 2 }}
  {{- include "forge.served" . | nindent 2 }}
  livenessProbe:
    httpGet: {{- include "forge.asked" (list . "/health") | nindent 6 }}
    terminationGracePeriodSeconds: 40 # the pod's is the node's; the sidecar's own longest stop is shorter
  {{- include "forge.handsOver" . | nindent 2 }}
  resources: {{- toYaml .Values.resources.manager | nindent 4 }}
  securityContext:
    {{- if eq .Values.mode "uids" }}
    runAsUser: 0
    runAsGroup: 0
    {{- end }}
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities:
      drop: [ALL]
      {{- if eq .Values.mode "uids" }}
      add: [SETUID, SETGID]
      {{- end }}
  volumeMounts: {{- include "forge.mounts" (list . (list "actuator" "prober" "elector" "arbiter" "gateway")) | nindent 4 }}
{{- end -}}

{{- /* Started in this order, so that the node comes after the gateway, which tells when its files are there. */ -}}
{{- define "forge.workers" -}}
{{- $root := . -}}
{{- range list "actuator" "prober" "arbiter" "elector" "gateway" }}
- name: {{ . }}
  command: [forge-manager, --worker, {{ . }}]
  {{- include "forge.common" $root | nindent 2 }}
  {{- if eq . "gateway" }}
  {{- include "forge.served" $root | nindent 2 }}
  {{- end }}
  {{- if eq . "elector" }}
  {{- include "forge.handsOver" $root | nindent 2 }}
  {{- end }}
  resources: {{- toYaml $root.Values.resources.worker | nindent 4 }}
  securityContext:
    runAsUser: {{ index $root.Values.uids . | int64 }}
    runAsGroup: {{ index $root.Values.uids . | int64 }}
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities: {drop: [ALL]}
  volumeMounts: {{- include "forge.mounts" (list $root (list .)) | nindent 4 }}
{{- end }}
{{- end -}}

{{- define "forge.sidecar" -}}
{{- if eq .Values.mode "containers" }}{{ include "forge.workers" . }}{{ else }}{{ include "forge.manager" . }}{{ end -}}
{{- end -}}

{{- define "forge.common" -}}
image: {{ include "forge.image" (list .Values.image .Chart.AppVersion) }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- if eq .Values.sidecar "native" }}
restartPolicy: Always
{{- end }}
env: {{- include "forge.env" . | nindent 2 }}
{{- end -}}

{{- define "forge.served" -}}
ports:
  - name: metrics
    containerPort: {{ .Values.gateway.port | int64 }}
{{- /* The node is started once its bootstrap files are there. */}}
startupProbe:
  httpGet: {{- include "forge.asked" (list . "/startup-status") | nindent 4 }}
  periodSeconds: 1
  failureThreshold: 120
  terminationGracePeriodSeconds: 40
{{- /* A rolling update goes on once this pod could take over. */}}
readinessProbe:
  httpGet: {{- include "forge.asked" (list . "/ready") | nindent 4 }}
  periodSeconds: 5
{{- end -}}

{{- /*
A native sidecar is told to end when the node has ended, but this hook runs when the pod's end begins. 10 s, since what is
asked for here outlives the container where a probe restarts it. --hook: what an operator asked for stays (a pause, a drain).
*/ -}}
{{- define "forge.handsOver" -}}
{{- if eq .Values.sidecar "native" -}}
lifecycle:
  preStop:
    exec:
      command: [forgectl, stand-down, --now, --for, 10s, --hook, --reason, the container ends]
{{- end -}}
{{- end -}}

{{- define "forge.asked" -}}
path: {{ index . 1 }}
port: metrics
{{- if (index . 0).Values.gateway.tls.secretName }}
scheme: HTTPS
{{- end }}
{{- end -}}

{{- /* root, the workers in the container: each sees what it needs. */ -}}
{{- define "forge.mounts" -}}
{{- $v := (index . 0).Values -}}
{{- $in := index . 1 -}}
- {name: run, mountPath: {{ $v.paths.run }}}
{{- if or (has "actuator" $in) (has "prober" $in) }}
- {name: ipc, mountPath: {{ dir $v.paths.nodeSocket }}}
{{- end }}
{{- if has "actuator" $in }}
- {name: keys, mountPath: /secrets, readOnly: true}
{{- if eq $v.credentials.mode "kes-agent" }}
- {name: kes-agent, mountPath: {{ dir $v.credentials.kesAgent.socket }}, readOnly: true}
{{- end }}
{{- end }}
{{- if or (has "elector" $in) (has "arbiter" $in) }}
- {name: api-token, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
{{- end }}
{{- if and (has "arbiter" $in) (eq (include "forge.othersCount" (index . 0)) "true") }}
- {name: coordination, mountPath: /coordination, readOnly: true}
{{- end }}
{{- if has "gateway" $in }}
{{- if $v.gateway.token.secretName }}
- {name: gateway-token, mountPath: /gateway/token, readOnly: true}
{{- end }}
{{- if $v.gateway.tls.secretName }}
- {name: gateway-tls, mountPath: /gateway/tls, readOnly: true}
{{- end }}
{{- end }}
{{- if has "prober" $in }}
{{- if $v.notify.secretName }}
- {name: notify-key, mountPath: /notify, readOnly: true}
{{- end }}
{{- if $v.schedule.secretName }}
- {name: schedule, mountPath: /schedule, readOnly: true}
{{- end }}
{{- end }}
{{- if $v.network.shelleyGenesis }}
- {name: config, mountPath: /config, readOnly: true}
{{- end }}
{{- with $v.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}
