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

{{/* What all jobs know of the site. A section may be null, of which an installation has left nothing but comments. */}}
{{- define "sunbird.site" -}}
{{- $values := .Values -}}
{{- $site := dict "job.env" $values.environment "kafka.broker-servers" $values.kafka.brokers -}}
{{- $cassandra := $values.cassandra | default dict }}
{{- with $cassandra.host }}
{{- $_ := merge $site (dict "lms-cassandra.host" . "lms-cassandra.port" (int $cassandra.port) "lms-cassandra.tls" $cassandra.tls) }}
{{- end }}
{{- with $cassandra.datacenter }}
{{- $_ := merge $site (dict "lms-cassandra.datacenter" . "lms-cassandra.isMultiDCEnabled" true) }}
{{- end }}
{{- $redis := $values.redis | default dict }}
{{- with $redis.host }}
{{- $_ := merge $site (dict "redis.host" . "redis.port" (int $redis.port) "redis.tls" $redis.tls) }}
{{- end }}
{{- with ($values.elasticsearch | default dict).address }}{{- $_ := set $site "es.basePath" . }}{{- end }}
{{- $site = mergeOverwrite $site ($values.config | default dict) }}
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

{{/* What Flink and the operator are told, as YAML; what an installation says of the same keys comes over it. */}}
{{- define "sunbird.flinkConfiguration" -}}
{{- $values := .root.Values -}}
{{- $checkpoints := $values.checkpoints -}}
{{- $path := ternary (printf "file:///checkpoints/%s" $checkpoints.path) $checkpoints.path (eq $checkpoints.store "volume") -}}
{{- $folder := printf "%s/%s" (trimSuffix "/" $path) .name -}}
# else the volumes, mounts and variables of a kind of pod would take the places of those that all pods have
kubernetes.operator.pod-template.merge-arrays-by-name: true
taskmanager.numberOfTaskSlots: {{ .it.slots }}
# a TaskManager has the classes of the jobs already; a JobManager takes them from the job's jar
classloader.resolve-order: parent-first
# what Flink 1.19 reaches into on Java 17: it stands in the configuration of Flink's image, which the operator's replaces
env.java.opts.all: >-
  {{- range list "java.base/sun.net.util" "java.rmi/sun.rmi.registry" "java.security.jgss/sun.security.krb5"
    "jdk.compiler/com.sun.tools.javac.api" "jdk.compiler/com.sun.tools.javac.file"
    "jdk.compiler/com.sun.tools.javac.parser" "jdk.compiler/com.sun.tools.javac.tree"
    "jdk.compiler/com.sun.tools.javac.util" }}
  --add-exports={{ . }}=ALL-UNNAMED
  {{- end }}
  {{- range list "java.base/java.io" "java.base/java.lang" "java.base/java.lang.reflect" "java.base/java.net"
    "java.base/java.nio" "java.base/java.text" "java.base/java.time" "java.base/java.util"
    "java.base/java.util.concurrent" "java.base/java.util.concurrent.atomic" "java.base/java.util.concurrent.locks"
    "java.base/sun.nio.ch" }}
  --add-opens={{ . }}=ALL-UNNAMED
  {{- end }}
# the Java steps of a job are short: this halves the CPU of a TaskManager
env.java.opts.taskmanager: -XX:TieredStopAtLevel=1 -XX:+UseSerialGC
taskmanager.memory.jvm-metaspace.size: 384m
taskmanager.memory.managed.size: 64m
jobmanager.memory.jvm-metaspace.size: 384m
restart-strategy.type: exponential-delay
restart-strategy.exponential-delay.initial-backoff: {{ $values.restart.initialBackoff }}
restart-strategy.exponential-delay.max-backoff: {{ $values.restart.maxBackoff }}
restart-strategy.exponential-delay.backoff-multiplier: {{ $values.restart.multiplier }}
metrics.reporters: prometheus
metrics.reporter.prometheus.factory.class: org.apache.flink.metrics.prometheus.PrometheusReporterFactory
metrics.reporter.prometheus.port: {{ $values.monitoring.port }}
{{- if ne $checkpoints.store "none" }}
state.checkpoints.dir: {{ $folder }}/checkpoints
state.savepoints.dir: {{ $folder }}/savepoints
execution.checkpointing.externalized-checkpoint-retention: RETAIN_ON_CANCELLATION
{{- end }}
{{- if or $values.highAvailability (eq .it.upgradeMode "last-state") }}
high-availability.type: kubernetes
high-availability.storageDir: {{ $folder }}/high-availability
{{- end }}
{{- if eq $checkpoints.store "s3" }}
{{- with $checkpoints.endpoint }}
s3.endpoint: {{ . }}
{{- end }}
{{- if $checkpoints.pathStyle }}
s3.path.style.access: true
{{- end }}
{{- else if eq $checkpoints.store "azure" }}
fs.azure.account.keyprovider.{{ regexFind "[^@/]+\\.blob\\.core\\.[a-z.]+" $checkpoints.path }}: org.apache.flink.fs.azurefs.EnvironmentVariableKeyProvider
{{- end }}
{{- end }}
