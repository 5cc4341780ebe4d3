{{/*
The objects of a file of config/, as JSON: (list $ "gateway/services.yaml"). Namespaces, and kubelet's folder, are those of the values.
*/}}
{{- define "connectors.objects" -}}
{{- $root := index . 0 -}}
{{- $text := $root.Files.Get (printf "config/%s" (index . 1)) -}}
{{- if not $text -}}{{ fail (printf "the chart has no file config/%s: it was not packaged from the repository" (index . 1)) }}{{- end -}}
{{- /* By way of a word that is in no file: one's new name may be the other's old one. */ -}}
{{- $text = regexReplaceAll "(?m)namespace: connectors-csi$" $text "namespace: DRIVER" -}}
{{- $text = regexReplaceAll "(?m)namespace: connectors-system$" $text (printf "namespace: %q" $root.Release.Namespace) -}}
{{- $text = regexReplaceAll "(?m)namespace: DRIVER$" $text (printf "namespace: %q" $root.Values.driver.namespace) -}}
{{- $text = $text | replace "KUBELET/" (printf "%s/" (trimSuffix "/" (default "/var/lib/kubelet" $root.Values.driver.kubelet))) -}}
{{- $text = $text | replace "system:serviceaccount:connectors-system:" (printf "system:serviceaccount:%s:" $root.Release.Namespace) -}}
{{- $objects := list -}}
{{- range regexSplit "(?m)^---\n" $text -1 -}}
{{- with fromYaml . -}}
{{- if .kind -}}{{- $objects = append $objects . -}}{{- else -}}{{ fail (printf "%v" .) }}{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $objects -}}
{{- end }}

{{/* The same, to be installed as they are. */}}
{{- define "connectors.asTheyAre" -}}
{{- range include "connectors.objects" . | fromJsonArray }}
---
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The gateway's settings as they are installed, as JSON. */}}
{{- define "connectors.settings" -}}
{{- $map := first (include "connectors.objects" (list $ "gateway/settings.yaml") | fromJsonArray) -}}
{{- toJson (mergeOverwrite (fromYaml (index $map.data "gateway.yaml")) (default dict .Values.gateway.settings)) -}}
{{- end }}

{{/* A duration of the settings in milliseconds. One with too many digits for a number counts as too long. */}}
{{- define "connectors.milliseconds" -}}
{{- $number := regexFind "^[0-9]+" . -}}
{{- $digits := regexReplaceAll "^0+([0-9])" $number "${1}" -}}
{{- if gt (len $digits) 11 -}}{{- $digits = "99999999999" -}}{{- end -}}
{{- $units := dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 -}}
{{- mul (int64 $digits) (int64 (index $units (trimPrefix $number .))) -}}
{{- end }}

{{- define "connectors.image" -}}
{{- $root := index . 0 -}}
{{- $name := printf "connectors-%s:%s" (index . 1) (default $root.Chart.AppVersion $root.Values.image.tag) -}}
{{- with $root.Values.image.registry -}}{{ trimSuffix "/" . }}/{{- end -}}{{ $name }}
{{- end }}

{{/*
Changes a Deployment or DaemonSet as the values of its part ask: (list $ workload values "gateway"). Comes out as nothing.
*/}}
{{- define "connectors.change" -}}
{{- $root := index . 0 -}}{{- $workload := index . 1 -}}{{- $values := index . 2 -}}
{{- $template := $workload.spec.template -}}
{{- $pod := $template.spec -}}
{{- $container := first $pod.containers -}}
{{- $_ := set $container "image" (include "connectors.image" (list $root (index . 3))) -}}
{{- $_ := set $container "imagePullPolicy" $root.Values.image.pullPolicy -}}
{{- $env := $container.env -}}
{{- if ne $root.Values.clusterDomain "cluster.local" -}}
{{- $env = append $env (dict "name" "CLUSTER_DOMAIN" "value" $root.Values.clusterDomain) -}}
{{- end -}}
{{- $_ := set $container "env" (concat $env (default list $values.env)) -}}
{{- with $values.resources -}}{{- $_ := set $container "resources" . -}}{{- end -}}
{{- with $root.Values.image.pullSecrets -}}
{{- $secrets := list -}}{{- range . -}}{{- $secrets = append $secrets (dict "name" .) -}}{{- end -}}
{{- $_ := set $pod "imagePullSecrets" $secrets -}}
{{- end -}}
{{- with $values.nodeSelector -}}{{- $_ := set $pod "nodeSelector" (merge (dict) . (default (dict) $pod.nodeSelector)) -}}{{- end -}}
{{- with $values.tolerations -}}{{- $_ := set $pod "tolerations" . -}}{{- end -}}
{{- with $values.priorityClassName -}}{{- $_ := set $pod "priorityClassName" . -}}{{- end -}}
{{- with $values.podLabels -}}{{- $_ := set $template.metadata "labels" (merge (dict) $template.metadata.labels .) -}}{{- end -}}
{{- with $values.podAnnotations -}}{{- $_ := set $template.metadata "annotations" . -}}{{- end -}}
{{- end }}
