{{/*
Names, labels and what every pod of the chart has in common. Templates are called with a dict:
  root       the chart's top-level scope
  component  operator | dashboard | superset | rabbitmq | postgresql | simulator
*/}}

{{- define "stockfeed.name" -}}
{{ printf "%s-%s" (.root.Release.Name | trunc 40 | trimSuffix "-") .component }}
{{- end }}

{{- define "stockfeed.selectorLabels" -}}
app.kubernetes.io/name: stockfeed
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "stockfeed.labels" -}}
{{ include "stockfeed.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: stockfeed
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Labels as an option has them: key=value,key=value. Called with a dict of labels. */}}
{{- define "stockfeed.labelList" -}}
{{- $pairs := list -}}
{{- range $key, $value := . }}{{ $pairs = append $pairs (printf "%s=%s" $key $value) }}{{ end -}}
{{ join "," $pairs }}
{{- end }}

{{/* A reference from {repository, tag, digest}; an empty tag means the chart's appVersion. Called with root and image. */}}
{{- define "stockfeed.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* What the Pod Security Standard "restricted" asks of a pod. Called with root and uid (user and group). */}}
{{- define "stockfeed.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: {{ .uid }}
runAsGroup: {{ .uid }}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* And of a container. */}}
{{- define "stockfeed.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Where a component's pod may run. Called with root and component. */}}
{{- define "stockfeed.scheduling" -}}
{{- $values := index .root.Values .component -}}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* A budget that lets one pod be away: with a single replica anything stricter would stop the draining of its node for good. */}}
{{- define "stockfeed.podDisruptionBudget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "stockfeed.name" . }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "stockfeed.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels: {{- include "stockfeed.selectorLabels" . | nindent 6 }}
{{- end }}

{{/* The pods of all feeds, in any namespace: a NetworkPolicyPeer. */}}
{{- define "stockfeed.feedPods" -}}
namespaceSelector: {}
podSelector:
  matchLabels:
    app.kubernetes.io/name: stockfeed
    app.kubernetes.io/managed-by: stockfeed-operator
{{- end }}

{{/* The operator's pod: a NetworkPolicyPeer. */}}
{{- define "stockfeed.operatorPod" -}}
podSelector:
  matchLabels: {{- include "stockfeed.selectorLabels" (dict "root" .root "component" "operator") | nindent 4 }}
{{- end }}

{{/* The dashboard's pod: a NetworkPolicyPeer. */}}
{{- define "stockfeed.dashboardPod" -}}
podSelector:
  matchLabels: {{- include "stockfeed.selectorLabels" (dict "root" .root "component" "dashboard") | nindent 4 }}
{{- end }}

{{/* An ingress rule for scraping metrics. Called with root and port. */}}
{{- define "stockfeed.metricsIngress" -}}
ports: [{protocol: TCP, port: {{ .port }}}]
{{- with .root.Values.networkPolicies.metricsClients }}
from: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/*
The password of a Secret that the cluster already has, or a new one. Helm cannot see the cluster in `helm template` and in a
client-side dry run: there each rendering has another password. Called with root, secret and key.
*/}}
{{- define "stockfeed.keptSecret" -}}
{{- $existing := lookup "v1" "Secret" .root.Release.Namespace .secret -}}
{{- $data := ($existing | default dict).data | default dict -}}
{{- if hasKey $data .key -}}
{{ index $data .key | b64dec }}
{{- else -}}
{{ randAlphaNum 32 }}
{{- end -}}
{{- end }}

{{/* Name of the Secret with the default broker connection; empty when there is none. */}}
{{- define "stockfeed.brokerSecret" -}}
{{- if .root.Values.rabbitmq.enabled -}}
{{ include "stockfeed.name" (dict "root" .root "component" "rabbitmq") }}
{{- else -}}
{{ .root.Values.broker.existingSecret }}
{{- end -}}
{{- end }}

{{/* Name of the Secret with the default database connection; empty when there is none. */}}
{{- define "stockfeed.databaseSecret" -}}
{{- if .root.Values.postgresql.enabled -}}
{{ include "stockfeed.name" (dict "root" .root "component" "postgresql") }}
{{- else -}}
{{ .root.Values.database.existingSecret }}
{{- end -}}
{{- end }}

{{/* The address of the Superset that feeds get their dashboards in; empty when there is none. */}}
{{- define "stockfeed.supersetUrl" -}}
{{- if .Values.superset.enabled -}}
http://{{ include "stockfeed.name" (dict "root" . "component" "superset") }}.{{ .Release.Namespace }}.svc:8080
{{- else -}}
{{ .Values.superset.url }}
{{- end -}}
{{- end }}

{{/* The Secret with the operator's account there. */}}
{{- define "stockfeed.supersetSecret" -}}
{{- if .Values.superset.enabled -}}
{{ include "stockfeed.name" (dict "root" . "component" "superset") }}
{{- else -}}
{{ .Values.superset.existingSecret | required "superset.url needs superset.existingSecret: a Secret with operatorUsername and operatorPassword" }}
{{- end -}}
{{- end }}

{{/* Whether Superset's caches are in a Redis; empty when not. */}}
{{- define "stockfeed.supersetRedis" -}}
{{ with .Values.superset.cache.redis }}{{ or .existingSecret .url }}{{ end }}
{{- end }}

{{/* Superset's start program, settings and accounts: the data of its ConfigMap. */}}
{{- define "stockfeed.supersetConfiguration" -}}
start.py: {{ .Files.Get "files/superset/start.py" | quote }}
superset_config.py: {{ .Files.Get "files/superset/superset_config.py" | quote }}
{{- $users := list }}
{{- range .Values.superset.users }}
{{- $users = append $users (merge (dict "passwordFile" (printf "/run/secrets/superset-users/%s" .username)) (omit . "existingSecret" "passwordKey")) }}
{{- end }}
accounts.yaml: {{ dict "access" .Values.superset.access "users" $users | toYaml | quote }}
databaseName: superset
{{- with .Values.superset.cache.redis.url }}
redis: {{ . | quote }}
{{- end }}
{{- end }}

{{/* The pods that resolve names, from networkPolicies.nameServers: a NetworkPolicyPeer; empty when any may. */}}
{{- define "stockfeed.nameServersPeer" -}}
{{- if ne .Values.networkPolicies.nameServers "Any" -}}
{{- $parts := splitn "/" 2 .Values.networkPolicies.nameServers -}}
namespaceSelector:
  matchLabels: {kubernetes.io/metadata.name: {{ $parts._0 }}}
podSelector:
  matchLabels:
    {{- range splitList "," $parts._1 }}
    {{- $pair := splitn "=" 2 . }}
    {{ $pair._0 }}: {{ $pair._1 | quote }}
    {{- end }}
{{- end -}}
{{- end }}

{{/* Superset's pod: a NetworkPolicyPeer. */}}
{{- define "stockfeed.supersetPod" -}}
podSelector:
  matchLabels: {{- include "stockfeed.selectorLabels" (dict "root" .root "component" "superset") | nindent 4 }}
{{- end }}
