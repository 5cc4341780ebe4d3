// Nothing of these is built: tests read the manifests that they ship.
module connectors/manifests

go 1.26.8

require (
	github.com/argoproj/argo-cd/v3 v3.5.7
	github.com/fluxcd/kustomize-controller v1.9.6
)
