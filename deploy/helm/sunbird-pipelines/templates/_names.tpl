{{- define "sunbird.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "sunbird.image" -}}
{{- $image := index .root.Values.images .name -}}
{{ $image.repository }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{/* What runs, as YAML: the deployments that are given, else every job by itself. */}}
{{- define "sunbird.deployments" -}}
{{- if .Values.deployments -}}
{{ toYaml .Values.deployments }}
{{- else -}}
{{- range $job := .Files.Get "files/jobs.json" | fromJsonArray }}
{{ $job | replace "." "-" }}: {jobs: { {{- $job | quote }}: {} }}
{{- end }}
{{- end -}}
{{- end }}

{{/* The variable that a secret's key comes in. */}}
{{- define "sunbird.variable" -}}
SECRET_{{ regexReplaceAll "[^A-Za-z0-9]" . "_" | upper }}
{{- end }}

{{/* What all jobs know of the site. */}}
{{- define "sunbird.site" -}}
{{- $values := .Values -}}
{{- $site := dict "job.env" $values.environment "kafka.broker-servers" $values.kafka.brokers -}}
{{- with $values.cassandra.host }}
{{- $_ := merge $site (dict "lms-cassandra.host" . "lms-cassandra.port" (int $values.cassandra.port) "lms-cassandra.tls" $values.cassandra.tls) }}
{{- end }}
{{- with $values.cassandra.datacenter }}
{{- $_ := merge $site (dict "lms-cassandra.datacenter" . "lms-cassandra.isMultiDCEnabled" true) }}
{{- end }}
{{- with $values.redis.host }}
{{- $_ := merge $site (dict "redis.host" . "redis.port" (int $values.redis.port) "redis.tls" $values.redis.tls) }}
{{- end }}
{{- with $values.elasticsearch.address }}{{- $_ := set $site "es.basePath" . }}{{- end }}
{{- $site = mergeOverwrite $site $values.config }}
{{- range $key, $_ := $values.secrets }}
{{- $_ := set $site $key (printf "${%s}" (include "sunbird.variable" $key)) }}
{{- end }}
{{- toYaml $site }}
{{- end }}

{{/* The variables by which Flink finds its file systems and their credentials. */}}
{{- define "sunbird.storageEnvironment" -}}
{{- $plugins := dict "s3" "flink-s3-fs-hadoop" "gcs" "flink-gs-fs-hadoop" "azure" "flink-azure-fs-hadoop" -}}
{{- with .Values.checkpoints -}}
{{- if hasKey $plugins .store }}
- name: ENABLE_BUILT_IN_PLUGINS
  value: {{ index $plugins .store }}-1.19.3.jar
{{- end }}
{{- if and (eq .store "s3") .credentials }}
- name: AWS_ACCESS_KEY_ID
  valueFrom: {secretKeyRef: {name: {{ .credentials }}, key: access-key}}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ .credentials }}, key: secret-key}}
{{- else if and (eq .store "gcs") .credentials }}
- name: GOOGLE_APPLICATION_CREDENTIALS
  value: /etc/checkpoints/key.json
{{- else if eq .store "azure" }}
- name: AZURE_STORAGE_KEY
  valueFrom: {secretKeyRef: {name: {{ required "checkpoints.credentials: Azure's account key" .credentials }}, key: account-key}}
{{- end }}
{{- end }}
{{- end }}

{{- define "sunbird.storageMounts" -}}
{{- with .Values.checkpoints }}
{{- if eq .store "volume" }}
- {name: checkpoints, mountPath: /checkpoints}
{{- else if and (eq .store "gcs") .credentials }}
- {name: checkpoints, mountPath: /etc/checkpoints, readOnly: true}
{{- end }}
{{- end }}
{{- end }}

{{- define "sunbird.storageVolumes" -}}
{{- with .Values.checkpoints }}
{{- if eq .store "volume" }}
- {name: checkpoints, persistentVolumeClaim: {claimName: {{ .claim }}}}
{{- else if and (eq .store "gcs") .credentials }}
- {name: checkpoints, secret: {secretName: {{ .credentials }}}}
{{- end }}
{{- end }}
{{- end }}

{{- define "sunbird.secured" -}}
allowPrivilegeEscalation: false
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}
