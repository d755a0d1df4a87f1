{{- /* The node's container: no secret, no token, nothing of ours but the folder in which its keys appear. */ -}}

{{- define "forge.nodeArguments" -}}
{{- $v := .Values -}}
{{- if $v.node.args -}}
{{- if not (or (has "--start-as-non-producing-node" $v.node.args) (has "--non-producing-node" $v.node.args)) -}}
{{- fail "node.args: must have --start-as-non-producing-node (newer nodes: --non-producing-node): without it the node forges before anybody told it to" -}}
{{- end -}}
{{- if ne (first $v.node.args) "run" -}}
{{- fail "node.args: must begin with run, the command of cardano-node" -}}
{{- end -}}
{{- toYaml $v.node.args -}}
{{- else -}}
- run
- --config=/config/{{ $v.node.configFile }}
- --topology=/config/{{ $v.node.topologyFile }}
- --database-path=/data/db
- --socket-path={{ $v.paths.nodeSocket }}
- --port={{ $v.node.port | int64 }}
{{- if eq $v.credentials.mode "kes-agent" }}
- --shelley-kes-agent-socket={{ $v.paths.kesAgentSocket }}
{{- else }}
- --shelley-kes-key={{ $v.paths.kesKey }}
{{- end }}
- --shelley-vrf-key={{ $v.paths.vrfKey }}
- --shelley-operational-certificate={{ $v.paths.opCert }}
- {{ $v.node.nonProducingOption }}
{{- end -}}
{{- with $v.node.extraArgs }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "forge.node" -}}
{{- $v := .Values -}}
- name: cardano-node
  image: {{ include "forge.image" (list $v.node.image "") }}
  imagePullPolicy: {{ $v.node.image.pullPolicy }}
  {{- with $v.node.command }}
  command: {{- toYaml . | nindent 4 }}
  {{- end }}
  args: {{- include "forge.nodeArguments" . | nindent 4 }}
  {{- with $v.node.env }}
  env: {{- toYaml . | nindent 4 }}
  {{- end }}
  lifecycle:
    preStop: # the sidecar hands over meanwhile: a node that closes its database proves nothing any more
      exec: {command: [sleep, "6"]}
  ports:
    - name: node
      containerPort: {{ $v.node.port | int64 }}
  {{- with $v.node.startupProbe }}
  startupProbe: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.node.livenessProbe }}
  livenessProbe: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.node.readinessProbe }}
  readinessProbe: {{- toYaml . | nindent 4 }}
  {{- end }}
  resources: {{- toYaml $v.node.resources | nindent 4 }}
  securityContext:
    runAsNonRoot: true
    runAsUser: {{ $v.uids.actuator | int64 }}
    runAsGroup: {{ $v.uids.actuator | int64 }}
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: {{ $v.node.readOnlyRootFilesystem }}
    capabilities: {drop: [ALL]}
  volumeMounts:
    - {name: ipc, mountPath: {{ dir $v.paths.nodeSocket }}}
    - {name: config, mountPath: /config, readOnly: true}
    - {name: data, mountPath: /data}
    {{- if eq $v.credentials.mode "kes-agent" }}
    - {name: kes-agent, mountPath: {{ dir $v.credentials.kesAgent.socket }}, readOnly: true}
    {{- end }}
    {{- with $v.node.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
