#!/bin/sh
# One operation of kubectl through the given kubeconfig; the last line that it prints is the result. KUBECTL is the binary.
#   client.sh KUBECONFIG OPERATION NAME      NAME is for what it makes; see docs/clients.md
set -eu
export KUBECONFIG=$1
operation=$2 name=$3 namespace=clients pod=server

kubectl() { "$KUBECTL" --namespace $namespace "$@"; }

list() { kubectl get configmaps --selector for=list --output 'jsonpath={.items[*].metadata.name}' | tr ' ' ','; }

# The state of now comes first, then each change.
watch() {
  mkfifo "/tmp/$name"
  "$KUBECTL" --namespace $namespace get configmap watched --watch --output 'jsonpath={.data.value}{"\n"}' >"/tmp/$name" &
  exec 3<"/tmp/$name"
  read -r now <&3
  echo watching
  read -r changed <&3
  kill $!
  echo "changed to $changed"
}

write() {
  kubectl create configmap "$name" --from-literal value=1 >/dev/null
  created=$(value)
  kubectl patch configmap "$name" --patch '{"data":{"value":"2"}}' >/dev/null
  patched=$(value)
  kubectl delete configmap "$name" >/dev/null
  [ -z "$(value --ignore-not-found)" ]
  echo "created $created, patched $patched, gone"
}

value() { kubectl get configmap "$name" --output 'jsonpath={.data.value}' "$@"; }

# Follows until four lines have come.
logs() { kubectl logs --follow --tail 1 $pod | head -n 4 | paste -s -d ,; }

command() {
  status=0
  out=$(echo hello | kubectl exec --stdin $pod -- sh -c 'read line; echo "got $line"; exit 7') || status=$?
  echo "$out, exit $status"
}

# A file goes into the Pod and comes back.
copy() {
  kubectl cp /tmp/file "$namespace/$pod:/tmp/$name" >/dev/null
  kubectl cp "$namespace/$pod:/tmp/$name" "/tmp/$name" >/dev/null
  sha256sum </tmp/"$name" | cut -d ' ' -f 1
  rm "/tmp/$name"
  kubectl exec $pod -- rm "/tmp/$name"
}

# Eight downloads of one file at once, and whether all are the same.
forward() {
  "$KUBECTL" --namespace $namespace port-forward pod/$pod :8000 >"/tmp/$name" &
  forwarder=$!
  until port=$(sed -n 's/^Forwarding from 127.0.0.1:\([0-9]*\) .*/\1/p' "/tmp/$name") && [ -n "$port" ]; do kill -0 $forwarder; sleep 0.1; done
  downloads=
  for n in 1 2 3 4 5 6 7 8; do
    wget -q -O "/tmp/$name-$n" "http://127.0.0.1:$port/file" &
    downloads="$downloads $!"
  done
  for download in $downloads; do wait "$download"; done
  kill $forwarder
  sha256sum "/tmp/$name"-[1-8] | cut -d ' ' -f 1 | uniq -c | sed 's/^ *8 /8 of /'
  rm "/tmp/$name"-[1-8]
}

case $operation in
  version) "$KUBECTL" version --client | sed -n 's/.*GitVersion:"\([^"]*\)".*/\1/p; s/^Client Version: //p' ;;
  plain | list) list ;;
  watch | write | logs | copy | forward) $operation ;;
  exec) command ;;
  *) echo "unknown operation $operation" >&2; exit 1 ;;
esac
