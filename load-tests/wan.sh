#!/bin/bash
# What a user of kubectl feels when the target is far away: `kubectl get pods -A` in a Pod, a new process each time, to a target behind a
# relay that makes a round trip take DISTANCES ms. Directly and through the gateway with both kubeconfigs, with an empty and with a filled
# discovery cache, ROUNDS times in turns. Writes load-tests/results and docs/pictures/wan.svg. `make load-wan` runs it beside a cluster of
# its own: wants what config/samples/install.sh wants, TARGET_CA, to be on the node, and BENCH.
set -euo pipefail
source "$(dirname "$0")/../config/samples/install.sh"
: "${BENCH:?set it to the bench binary}"

DEMO=load-wan
DISTANCES=${DISTANCES:-0 20 80 200}
ROUNDS=${ROUNDS:-21}
# The end of the cable to the target that is on the node: no address of a Pod, a Service or a node, so the gateway may connect to it.
RELAY=${RELAY:-198.18.255.1}
# A name that the target's certificate has; it does not have the relay's address.
NAME=kubernetes.default.svc

port() { echo $((7000 + $1)); }
in_pod() { kubectl exec -n "$DEMO" load-wan -- "$@"; }

start_relays() {
  for distance in $DISTANCES; do
    "$BENCH" relay --listen "$RELAY:$(port "$distance")" --target "${TARGET_ADDRESS#https://}" --round-trip "$distance" &
    relays+=($!)
  done
}

# 50 Pods to list, which no node is to run; then there are PODS.
pods_at_target() {
  local spec='{nodeSelector: {nowhere: ""}, containers: [{name: any, image: any}]}'
  for number in $(seq 50); do
    printf -- '---\n{apiVersion: v1, kind: Pod, metadata: {name: listed-%s}, spec: %s}\n' "$number" "$spec"
  done | kubectl --kubeconfig "$TARGET_KUBECONFIG" create -n default -f -
  PODS=$(kubectl --kubeconfig "$TARGET_KUBECONFIG" get pods -A -o name | wc -l)
}

# Each has a Secret of its own, so that a new version of it is a matter of one connector.
connector() {
  kubectl apply -n "$DEMO" -f - <<YAML
kind: Secret
apiVersion: v1
metadata:
  name: $1
  labels: {kind: ${1%-*}}
type: connectors.cpaas.io/bearer-token
stringData:
  token: $TARGET_TOKEN
  ca.crt: |
$(sed 's/^/    /' "$TARGET_CA")
---
apiVersion: connectors.alauda.io/v1alpha1
kind: Connector
metadata:
  name: $1
  labels: {kind: ${1%-*}}
  annotations: {connectors.cpaas.io/tls-server-name: $NAME}
spec:
  connectorClassName: k8s
  address: https://$RELAY:$(port "${1#*-}")
  auth:
    name: bearerTokenAuth
    secretRef: {name: $1}
YAML
}

# The kubeconfig that one would have without Connectors, with a context for each distance.
direct_kubeconfig() {
  local file=$scratch/direct
  kubectl --kubeconfig "$file" config set-credentials reader --token "$TARGET_TOKEN"
  for distance in $DISTANCES; do
    kubectl --kubeconfig "$file" config set-cluster "$distance" --server "https://$RELAY:$(port "$distance")" \
      --certificate-authority "$TARGET_CA" --embed-certs --tls-server-name "$NAME"
    kubectl --kubeconfig "$file" config set-context "warm-$distance" --cluster "$distance" --user reader
  done
}

# Both kubeconfigs for all connectors, the direct one, and what is to be run.
pod() {
  local names
  names=$(for distance in $DISTANCES; do echo "warm-$distance,cold-$distance"; done | paste -sd,)
  kubectl create secret generic runs -n "$DEMO" --from-file "$scratch/direct" --from-file turns=load-tests/wan-turns.sh
  kubectl apply -n "$DEMO" -f - <<YAML
kind: Pod
apiVersion: v1
metadata:
  name: load-wan
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: kubectl
    image: alpine/kubectl:1.35.4
    imagePullPolicy: IfNotPresent
    command: [sleep, "3600"]
    volumeMounts:
    - {name: kubeconfigs, mountPath: /opt/kube}
    - {name: runs, mountPath: /opt/runs}
  volumes:
  - name: runs
    secret: {secretName: runs}
  - name: kubeconfigs
    csi:
      readOnly: true
      driver: connectors-csi
      volumeAttributes: {connectors: "$names", configuration.names: "kubeconfig,kubeconfig-reverse"}
YAML
  step "kubectl wait --for condition=Ready -n $DEMO pod/load-wan --timeout 60s"
}

setting() {
  install_connectors
  target_account
  pods_at_target
  start_relays
  step "kubectl create namespace $DEMO"
  for distance in $DISTANCES; do connector "warm-$distance"; connector "cold-$distance"; done
  step "kubectl wait --for condition=Ready -n $DEMO connectors --all --timeout 60s"
  direct_kubeconfig
  pod
}

versions() { kubectl get "$1" -n "$DEMO" -l kind=cold -o "jsonpath={.items[*].$2}"; }

# A new version of its Secret gives a connector a new route, which has no connection to the target yet.
new_routes() {
  local until=$((SECONDS + 20))
  kubectl annotate secret -n "$DEMO" -l kind=cold "turn=$1" --overwrite >/dev/null
  until [ "$(versions secret metadata.resourceVersion)" = "$(versions connector status.credential.resourceVersion)" ]; do
    [ $SECONDS -lt $until ] || { echo 'the connectors do not take the new version of their Secrets' >&2; return 1; }
    sleep 0.1
  done
  # The gateways hear of it a moment after the status is there; the controller asks for probes, which are to be over.
  sleep 1.5
}

# Every way to every distance once, twice: with an empty and with a filled discovery cache.
round() {
  for cache in empty filled; do
    new_routes "$1-$cache"
    in_pod sh /opt/runs/turns "$cache" "$1" "$PODS" $DISTANCES
  done
}

report() {
  "$BENCH" wan --samples "$scratch/samples" --about 'command=kubectl get pods -A' --about "rounds=$ROUNDS" --about "date=$(date -u +%F)" \
    --about "images=${IMAGES:-unknown}" --about "Pods listed=$PODS" \
    --about "kubectl=$(in_pod kubectl version --client | sed -n 's/^Client Version: //p')" \
    --about "gateways=$(kubectl get deployment -n connectors-system connectors-gateway -o 'jsonpath={.spec.replicas}')" \
    --about "gateway=$(kubectl exec -n connectors-system deployment/connectors-gateway -- connectors-gateway --version)" \
    --about "target=kube-apiserver $(kubectl --kubeconfig "$TARGET_KUBECONFIG" get --raw /version | sed -n 's/.*"gitVersion": "\(.*\)".*/\1/p')"
}

scratch=$(mktemp -d)
relays=()
trap 'kill "${relays[@]}" 2>/dev/null || true; rm -rf "$scratch"' EXIT
setting >/dev/null
echo "load-wan: kubectl get pods -A to a target at a round trip of ${DISTANCES// /, } ms, $ROUNDS rounds"
# Fills the discovery caches and opens the gateways' connections to the targets: that they stay open is what is to be measured.
for turn in 1 2 3; do round "before-$turn" >/dev/null; done
for turn in $(seq "$ROUNDS"); do round "$turn" >>"$scratch/samples"; done
report
