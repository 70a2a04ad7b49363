{{- /*
What guard and gateway have in common: account, settings, policies, budget and Deployment. Takes root, name, app,
values, settings, checksum (a ConfigMap's name does not change with its content, so the pods carry a sum of it),
startup (the health name a start waits for), ports by name, and as YAML text env, mounts, volumes and init.
*/}}
{{- define "moderation.server" -}}
{{- $root := .root }}
{{- $app := .app }}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ .name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "moderation.labels" $root | nindent 4 }}
automountServiceAccountToken: false
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .name }}-settings
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "moderation.labels" $root | nindent 4 }}
data:
  {{- range $variable, $value := .settings }}
  {{ $variable }}: {{ $value | toString | quote }}
  {{- end }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .name }}-policies
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "moderation.labels" $root | nindent 4 }}
data:
  {{- toYaml .values.policies | nindent 2 }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "moderation.labels" $root | nindent 4 }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      app.kubernetes.io/name: {{ $app }}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    app.kubernetes.io/name: {{ $app }}
    {{- include "moderation.labels" $root | nindent 4 }}
spec:
  {{- if eq $root.Values.autoscaling.kind "none" }}
  replicas: {{ .values.replicas }}
  {{- end }}
  revisionHistoryLimit: 3
  progressDeadlineSeconds: {{ .values.progressDeadlineSeconds }}
  selector:
    matchLabels:
      app.kubernetes.io/name: {{ $app }}
  strategy:
    type: RollingUpdate
    rollingUpdate:
      {{- toYaml .values.rollingUpdate | nindent 6 }}
  {{- with .values.minReadySeconds }}
  minReadySeconds: {{ . }}
  {{- end }}
  template:
    metadata:
      labels:
        app.kubernetes.io/name: {{ $app }}
        app.kubernetes.io/part-of: moderation
      annotations:
        cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes: tmp
        checksum/config: {{ .checksum }}
    spec:
      serviceAccountName: {{ .name }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ .values.terminationGracePeriodSeconds }}
      {{- with .values.runtimeClassName }}
      runtimeClassName: {{ . }}
      {{- end }}
      {{- with include "moderation.node-labels" .values.nodeSelector }}
      nodeSelector:
        {{- . | trim | nindent 8 }}
      {{- end }}
      {{- with .values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        {{- include "moderation.pod-security" $root | nindent 8 }}
      topologySpreadConstraints:
        {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
        - topologyKey: {{ . }}
          maxSkew: 1
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              app.kubernetes.io/name: {{ $app }}
          matchLabelKeys: [pod-template-hash]
        {{- end }}
      {{- with .init }}
      initContainers:
        {{- . | nindent 8 }}
      {{- end }}
      containers:
        - name: {{ .name }}
          image: {{ include "moderation.image" .values.image }}
          imagePullPolicy: IfNotPresent
          args: [serve]
          envFrom:
            - configMapRef:
                name: {{ .name }}-settings
          env:
            {{- with .env }}
            {{- . | nindent 12 }}
            {{- end }}
            - name: HF_HUB_OFFLINE
              value: "1"
            - name: HOME
              value: /tmp
            - name: OMP_WAIT_POLICY
              value: passive
          ports:
            {{- range $name, $port := .ports }}
            - name: {{ $name }}
              containerPort: {{ $port }}
            {{- end }}
          startupProbe:
            {{- include "moderation.probe" (dict "port" .ports.health "service" .startup "period" .values.startupProbe.periodSeconds "failures" .values.startupProbe.failureThreshold) | nindent 12 }}
          livenessProbe:
            {{- include "moderation.probe" (dict "port" .ports.health "service" "live" "period" 10 "failures" 6) | nindent 12 }}
          readinessProbe:
            {{- include "moderation.probe" (dict "port" .ports.health "service" "ready" "period" 5 "failures" 2) | nindent 12 }}
          {{- with .values.resources }}
          resources:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          securityContext:
            {{- include "moderation.confined" $root | nindent 12 }}
          volumeMounts:
            {{- with .mounts }}
            {{- . | nindent 12 }}
            {{- end }}
            - name: tmp
              mountPath: /tmp
            - name: policies
              mountPath: /etc/moderation
              readOnly: true
      volumes:
        {{- with .volumes }}
        {{- . | nindent 8 }}
        {{- end }}
        - name: tmp
          emptyDir:
            sizeLimit: 256Mi
        - name: policies
          configMap:
            name: {{ .name }}-policies
{{- end }}
