{{- define "dfs.selector" -}}
app.kubernetes.io/name: dfs
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "dfs.labels" -}}
{{ include "dfs.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "dfs.name" -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "dfs.container" -}}
image: "{{ .Values.image.repository }}:{{ .Values.image.tag }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
env:
  - name: POD_NAME
    valueFrom: { fieldRef: { fieldPath: metadata.name } }
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
resources:
  {{- toYaml .Values.resources | nindent 2 }}
volumeMounts:
  - { name: data, mountPath: /var/lib/dfs }
  - { name: config, mountPath: /etc/dfs/config, readOnly: true }
  - { name: secrets, mountPath: /etc/dfs/secrets, readOnly: true }
  {{- if .Values.tls.enabled }}
  - { name: tls, mountPath: /etc/dfs/tls, readOnly: true }
  {{- end }}
{{- end }}
