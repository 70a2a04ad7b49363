{{- define "moderation.from-model" -}}
valueFrom:
  configMapKeyRef:
    name: guard-model
    key: {{ . }}
{{- end }}

{{- define "moderation.weights-env" -}}
- name: GUARD_MODEL
  {{- include "moderation.from-model" "folder" | nindent 2 }}
- name: GUARD_REVISION
  {{- include "moderation.from-model" "revision" | nindent 2 }}
{{- end }}

{{- define "moderation.weights-mount" -}}
- name: models
  mountPath: /models
  readOnly: true
{{- end }}

{{- define "moderation.manifest-mount" -}}
- name: manifest
  mountPath: /etc/weights
  readOnly: true
{{- end }}

{{- define "moderation.weights-volumes" -}}
- name: manifest
  configMap:
    name: guard-model
- name: models
  persistentVolumeClaim:
    claimName: guard-models
    readOnly: true
{{- end }}

{{- define "moderation.weights-init" -}}
- name: verify
  image: {{ include "moderation.image" .Values.guard.image }}
  imagePullPolicy: IfNotPresent
  args: [models, verify, $(FOLDER), --manifest, /etc/weights/SHA256SUMS]
  env:
    - name: FOLDER
      {{- include "moderation.from-model" "folder" | nindent 6 }}
    - name: HOME
      value: /tmp
  resources:
    requests: {cpu: "1", memory: 512Mi}
    limits: {cpu: "4", memory: 512Mi}
  securityContext:
    {{- include "moderation.confined" . | nindent 4 }}
  volumeMounts:
    - name: tmp
      mountPath: /tmp
    {{- include "moderation.manifest-mount" . | nindent 4 }}
    {{- include "moderation.weights-mount" . | nindent 4 }}
{{- end }}
