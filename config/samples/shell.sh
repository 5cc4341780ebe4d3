#!/bin/bash
# A shell on a cluster with Connectors and the quick start's connector. Leaving it ends the cluster of `make shell`.
set -euo pipefail
source "$(dirname "$0")/install.sh"

{
  install_connectors
  target_account
  step "kubectl create ns $DEMO"
  apply_sample connector.yaml
} >/dev/null
cat <<TEXT

Connectors is installed; the connector k8s-connector in namespace $DEMO stands for a second cluster. Try:
  kubectl get connectors -A
  kubectl apply -n $DEMO -f config/samples/inspect.yaml
  kubectl exec -n $DEMO inspect-k8s-access -it -- kubectl get pods -A
  kubectl --kubeconfig \$TARGET_KUBECONFIG get pods -A     # the second cluster itself
TEXT
export TARGET_TOKEN TARGET_ADDRESS
PS1='connectors \w\$ ' exec bash --norc -i
