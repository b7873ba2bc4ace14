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
{{- end -}}
