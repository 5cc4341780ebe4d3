# Sourced by the demo, the shell and the load test. Wants KUBECONFIG (the cluster that gets Connectors) and TARGET_KUBECONFIG (the cluster
# that it shall reach, by an address that Pods can dial); gives `step`, which types a command, and the steps of an installation.

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
: "${KUBECONFIG:?set it to the kubeconfig of the cluster that gets Connectors}"
: "${TARGET_KUBECONFIG:?set it to the kubeconfig of the cluster that Connectors shall reach}"
DEMO=k8s-connector-demo

# Types a command as a user would, runs it and says how long it took. It ends the script if the command fails.
step() {
  printf '\n\e[1m$ %s\e[0m\n' "$1"
  local start=$EPOCHREALTIME
  eval "$1" || { echo "failed: $1" >&2; explain; exit 1; }
  printf '\e[2m(%s s)\e[0m\n' "$(seconds_between "$start" "$EPOCHREALTIME")"
}

# Seconds with one decimal between two values of EPOCHREALTIME.
seconds_between() {
  local tenths=$(((${2/[.,]/} - ${1/[.,]/}) / 100000))
  echo "$((tenths / 10)).$((tenths % 10))"
}

# What an operator would look at first.
explain() {
  {
    kubectl get pods --all-namespaces -o wide
    kubectl get connectors --all-namespaces -o yaml
    kubectl get events --all-namespaces --sort-by .lastTimestamp | tail -n 30
    for workload in deployment/connectors-gateway deployment/connectors-controller; do kubectl logs -n connectors-system "$workload" --tail 20; done
    kubectl logs -n connectors-csi daemonset/connectors-csi --tail 20
  } >&2 || true
}

install_connectors() {
  step 'kubectl apply -k config/default'
  step 'kubectl rollout status -n connectors-system deployment/connectors-gateway --timeout 120s'
  step 'kubectl rollout status -n connectors-system deployment/connectors-controller --timeout 120s'
  step 'kubectl rollout status -n connectors-csi daemonset/connectors-csi --timeout 120s'
}

# An account of the target that may list Pods, its token and the target's address: what the owner of a target hands out.
target_account() {
  step 'kubectl --kubeconfig "$TARGET_KUBECONFIG" create serviceaccount reader -n default'
  step 'kubectl --kubeconfig "$TARGET_KUBECONFIG" create clusterrolebinding reader --clusterrole view --serviceaccount default:reader'
  step 'TARGET_TOKEN=$(kubectl --kubeconfig "$TARGET_KUBECONFIG" create token reader -n default --duration 1h)'
  step 'TARGET_ADDRESS=$(kubectl --kubeconfig "$TARGET_KUBECONFIG" config view --minify -o jsonpath={.clusters[0].cluster.server})'
}

# The quick start's `cat <<EOF | kubectl apply`, with a manifest of this folder.
apply_sample() {
  step "cat <<EOF | kubectl apply -n $DEMO -f -
$(cat "config/samples/$1")
EOF"
}
