{{- define "moderation.labels" -}}
app.kubernetes.io/part-of: moderation
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "moderation.image" -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag }}{{ end }}
{{- end }}

{{- /* A number as the API server writes it, so that applying it again changes nothing. */ -}}
{{- define "moderation.quantity" -}}
{{ if mod . 1000 }}{{ . }}{{ else }}{{ div . 1000 }}k{{ end }}
{{- end }}

{{- /* Without those set to null, as a later file of values takes out what an earlier one asks for. */ -}}
{{- define "moderation.node-labels" -}}
{{- range $label, $value := . }}
{{- if kindIs "string" $value }}
{{ $label }}: {{ $value | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- define "moderation.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "moderation.pod-security" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "moderation.probe" -}}
grpc:
  port: {{ .port }}
  service: {{ .service }}
periodSeconds: {{ .period }}
timeoutSeconds: 3
failureThreshold: {{ .failures }}
{{- end }}

{{- define "moderation.dns-egress" -}}
- to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: kube-system
      podSelector:
        matchLabels:
          k8s-app: kube-dns
  ports:
    - port: 53
      protocol: UDP
    - port: 53
      protocol: TCP
{{- end }}

{{- define "moderation.prometheus-ingress" -}}
- from:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: {{ .namespace }}
      podSelector:
        matchLabels:
          app.kubernetes.io/name: prometheus
  ports:
    - port: {{ .port }}
      protocol: TCP
{{- end }}
