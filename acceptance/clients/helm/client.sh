#!/bin/sh
# One operation of helm through the given kubeconfig; the last line that it prints is the result. HELM is the binary, IDLE the idle time.
#   client.sh KUBECONFIG OPERATION NAME      NAME is for what it makes; see docs/clients.md
set -eu
export KUBECONFIG=$1
operation=$2 name=$3
here=${0%/*}

helm() { "$HELM" --namespace clients "$@"; }

# What the cluster has, by a chart that only looks.
ask() { helm template ask "$here/ask" --dry-run=server "$@"; }

list() { ask | sed -n 's/^  \(.*\): listed$/\1/p' | sort | paste -s -d ,; }

value() { ask --set "name=$name" | sed -n 's/^  value: //p' | tr -d '"'; }

write() {
  helm install "$name" "$here/chart" >/dev/null
  created=$(value)
  helm upgrade "$name" "$here/chart" --set-string value=2 >/dev/null
  patched=$(value)
  helm uninstall "$name" >/dev/null
  [ "$(value)" = none ]
  echo "created $created, patched $patched, gone"
}

# Helm watches when it waits for what it installed, here for a Pod that is ready when the idle time is over.
watch() {
  start=$(date +%s)
  helm install "$name" "$here/chart" --set idle="$IDLE" --wait=watcher --timeout 30m >/dev/null &
  echo watching
  wait $!
  helm uninstall "$name" >/dev/null
  [ $(($(date +%s) - start)) -ge "$IDLE" ]
  echo 'waited for the Pod'
}

case $operation in
  version) "$HELM" version --template '{{.Version}}' ;;
  plain | list) list ;;
  watch | write) $operation ;;
  logs | exec | copy | forward) helm $operation ;;
  *) echo "unknown operation $operation" >&2; exit 1 ;;
esac
