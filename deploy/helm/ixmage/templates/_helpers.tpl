{{- define "ixmage.fullname" -}}
{{- if contains "ixmage" .Release.Name -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-ixmage" .Release.Name | trunc 50 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{- define "ixmage.selector" -}}
app.kubernetes.io/name: ixmage
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "ixmage.labels" -}}
{{ include "ixmage.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "ixmage.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "ixmage.fullname" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end -}}

{{- define "ixmage.image" -}}
{{- if .Values.image.digest -}}
{{ printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else -}}
{{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end -}}
{{- end -}}

{{/* Values that cannot work together. */}}
{{- define "ixmage.check" -}}
{{- if and .Values.admin.expose (not .Values.admin.tls.existingSecret) (not .Values.admin.insecure) -}}
{{- fail "admin.expose needs admin.tls.existingSecret (a Secret of type kubernetes.io/tls), or admin.insecure=true where something in front of the pod adds TLS: the admin token would cross the network in the clear" -}}
{{- end -}}
{{- if and .Values.masterKey.existingSecret .Values.masterKey.kmsKeyArn -}}
{{- fail "masterKey.existingSecret and masterKey.kmsKeyArn contradict each other: set one of them" -}}
{{- end -}}
{{- if and .Values.provision.enabled (not .Values.provision.buckets) -}}
{{- fail "provision.enabled needs provision.buckets: no bucket may be provisioned without" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "ingress.enabled needs ingress.hosts" -}}
{{- end -}}
{{- if and (gt (int .Values.replicas) 1) (not .Values.store.existingSecret) -}}
{{- fail "replicas needs store.existingSecret (a Secret with the URL of a PostgreSQL database): only one process uses a data folder" -}}
{{- end -}}
{{- if and .Values.store.existingSecret (not .Values.masterKey.existingSecret) -}}
{{- fail "store.existingSecret needs masterKey.existingSecret: all nodes open the secrets of the registry with one key set, and each would make its own" -}}
{{- end -}}
{{- if and (gt (int .Values.replicas) 1) .Values.persistence.existingClaim -}}
{{- fail "persistence.existingClaim is one volume, and replicas are several pods: leave it empty, and each pod has its own" -}}
{{- end -}}
{{- end -}}
