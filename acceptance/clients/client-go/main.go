// One operation of a client on client-go through the given kubeconfig; the last line that it prints is the result.
// It is built with the tools of testenv/tools, so its version of client-go is theirs.
//
//	client-go KUBECONFIG OPERATION NAME      NAME is for what it makes; see docs/clients.md
package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	utilexec "k8s.io/client-go/util/exec"
)

var (
	namespace = cmp.Or(os.Getenv("NAMESPACE"), "clients")
	pod       = cmp.Or(os.Getenv("POD"), "server")
)

type client struct {
	config *rest.Config
	api    kubernetes.Interface
	name   string
}

func main() {
	ctx := context.Background()
	result, err := run(ctx, os.Args[1], os.Args[2], os.Args[3])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(result)
}

func run(ctx context.Context, kubeconfig, operation, name string) (string, error) {
	if operation == "version" {
		return version()
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return "", err
	}
	api, err := kubernetes.NewForConfig(config)
	if err != nil {
		return "", err
	}
	c := client{config, api, name}
	operations := map[string]func(context.Context) (string, error){
		"plain": c.list, "list": c.list, "watch": c.watch, "write": c.write, "logs": c.logs, "exec": c.exec, "copy": c.copy, "forward": c.forward,
		"outlive": c.outlive,
	}
	do, known := operations[operation]
	if !known {
		return "", fmt.Errorf("unknown operation %q", operation)
	}
	return do(ctx)
}

func version() (string, error) {
	info, _ := debug.ReadBuildInfo()
	for _, dependency := range info.Deps {
		if dependency.Path == "k8s.io/client-go" {
			if dependency.Replace != nil {
				dependency = dependency.Replace
			}
			return dependency.Version, nil
		}
	}
	return "", errors.New("built without client-go")
}

func (c client) list(ctx context.Context) (string, error) {
	found, err := c.api.CoreV1().ConfigMaps(namespace).List(ctx, metav1.ListOptions{LabelSelector: "for=list"})
	if err != nil {
		return "", err
	}
	var names []string
	for _, item := range found.Items {
		names = append(names, item.Name)
	}
	return strings.Join(names, ","), nil
}

// watch says when it watches, and ends with the first change after that.
func (c client) watch(ctx context.Context) (string, error) {
	one := metav1.ListOptions{FieldSelector: "metadata.name=watched"}
	found, err := c.api.CoreV1().ConfigMaps(namespace).List(ctx, one)
	if err != nil {
		return "", err
	}
	one.ResourceVersion = found.ResourceVersion
	watch, err := c.api.CoreV1().ConfigMaps(namespace).Watch(ctx, one)
	if err != nil {
		return "", err
	}
	defer watch.Stop()
	fmt.Println("watching")
	event, open := <-watch.ResultChan()
	if !open {
		return "", errors.New("the watch ended without an event")
	}
	changed, is := event.Object.(*corev1.ConfigMap)
	if !is {
		return "", fmt.Errorf("an event of type %s: %v", event.Type, event.Object)
	}
	return "changed to " + changed.Data["value"], nil
}

// outlive lists and runs a command every two seconds, until its watch ends with a change.
func (c client) outlive(ctx context.Context) (string, error) {
	type end struct {
		result string
		err    error
	}
	watched := make(chan end, 1)
	go func() {
		result, err := c.watch(ctx)
		watched <- end{result, err}
	}()
	begun := time.Now()
	for round := 0; ; round++ {
		select {
		case end := <-watched:
			return fmt.Sprintf("%d rounds, then %s", round, end.result), end.err
		case <-time.After(2 * time.Second):
		}
		if _, err := c.list(ctx); err != nil {
			return "", fmt.Errorf("list after %s: %w", time.Since(begun), err)
		}
		var out strings.Builder
		if err := c.command(ctx, nil, &out, "echo", "here"); err != nil || out.String() != "here\n" {
			return "", fmt.Errorf("exec after %s: %q: %w", time.Since(begun), out.String(), err)
		}
	}
}

func (c client) write(ctx context.Context) (string, error) {
	maps := c.api.CoreV1().ConfigMaps(namespace)
	created := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: c.name}, Data: map[string]string{"value": "1"}}
	created, err := maps.Create(ctx, created, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	patched, err := maps.Patch(ctx, c.name, types.MergePatchType, []byte(`{"data":{"value":"2"}}`), metav1.PatchOptions{})
	if err != nil {
		return "", err
	}
	if err := maps.Delete(ctx, c.name, metav1.DeleteOptions{}); err != nil {
		return "", err
	}
	if _, err = maps.Get(ctx, c.name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		return "", fmt.Errorf("deleted, and then: %w", err)
	}
	return fmt.Sprintf("created %s, patched %s, gone", created.Data["value"], patched.Data["value"]), nil
}

// logs follows until four lines have come.
func (c client) logs(ctx context.Context) (string, error) {
	last := int64(1)
	options := &corev1.PodLogOptions{Follow: true, TailLines: &last}
	stream, err := c.api.CoreV1().Pods(namespace).GetLogs(pod, options).Stream(ctx)
	if err != nil {
		return "", err
	}
	defer stream.Close()
	lines := bufio.NewScanner(stream)
	var seen []string
	for len(seen) < 4 && lines.Scan() {
		seen = append(seen, lines.Text())
	}
	return strings.Join(seen, ","), lines.Err()
}

// command runs words in the Pod: over WebSocket, over SPDY where that is refused, as kubectl does.
func (c client) command(ctx context.Context, in io.Reader, out io.Writer, words ...string) error {
	request := c.api.CoreV1().RESTClient().Post().Resource("pods").Namespace(namespace).Name(pod).SubResource("exec")
	options := &corev1.PodExecOptions{Command: words, Stdin: in != nil, Stdout: true, Stderr: true}
	request.VersionedParams(options, scheme.ParameterCodec)
	websocket, err := remotecommand.NewWebSocketExecutor(c.config, http.MethodGet, request.URL().String())
	if err != nil {
		return err
	}
	older, err := remotecommand.NewSPDYExecutor(c.config, http.MethodPost, request.URL())
	if err != nil {
		return err
	}
	executor, err := remotecommand.NewFallbackExecutor(websocket, older, httpstream.IsUpgradeFailure)
	if err != nil {
		return err
	}
	return executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: in, Stdout: out, Stderr: os.Stderr})
}

func (c client) exec(ctx context.Context) (string, error) {
	var out strings.Builder
	err := c.command(ctx, strings.NewReader("hello\n"), &out, "sh", "-c", `read line; echo "got $line"; exit 7`)
	var exit utilexec.CodeExitError
	if !errors.As(err, &exit) {
		return "", fmt.Errorf("no exit status: %w", err)
	}
	return fmt.Sprintf("%s, exit %d", strings.TrimSpace(out.String()), exit.Code), nil
}

// copy brings a file into the Pod and back, and says what came back.
func (c client) copy(ctx context.Context) (string, error) {
	file, err := os.Open("/tmp/file")
	if err != nil {
		return "", err
	}
	there := "/tmp/" + c.name
	// With && the shell stays: a command that gives up its output is taken to be at its end.
	if err := c.command(ctx, file, os.Stderr, "sh", "-c", "cat >"+there+" && echo written"); err != nil {
		return "", err
	}
	back := sha256.New()
	if err := c.command(ctx, nil, back, "cat", there); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", back.Sum(nil)), c.command(ctx, nil, os.Stderr, "rm", there)
}

func (c client) dialer() (httpstream.Dialer, error) {
	address := c.api.CoreV1().RESTClient().Post().Resource("pods").Namespace(namespace).Name(pod).SubResource("portforward").URL()
	transport, upgrader, err := spdy.RoundTripperFor(c.config)
	if err != nil {
		return nil, err
	}
	older := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, address)
	websocket, err := portforward.NewSPDYOverWebsocketDialer(address, c.config)
	if err != nil {
		return nil, err
	}
	return portforward.NewFallbackDialer(websocket, older, httpstream.IsUpgradeFailure), nil
}

// forward downloads one file eight times at once and says how many downloads were the same.
func (c client) forward(context.Context) (string, error) {
	dialer, err := c.dialer()
	if err != nil {
		return "", err
	}
	stop, ready := make(chan struct{}), make(chan struct{})
	defer close(stop)
	forwarder, err := portforward.New(dialer, []string{"0:8000"}, stop, ready, io.Discard, os.Stderr)
	if err != nil {
		return "", err
	}
	failed := make(chan error, 1)
	go func() { failed <- forwarder.ForwardPorts() }()
	select {
	case <-ready:
	case err := <-failed:
		return "", err
	case <-time.After(20 * time.Second):
		return "", errors.New("the port is not forwarded after 20 s")
	}
	ports, err := forwarder.GetPorts()
	if err != nil {
		return "", err
	}
	return downloads(fmt.Sprintf("http://127.0.0.1:%d/file", ports[0].Local))
}

func downloads(address string) (string, error) {
	var sums [8]string
	var all sync.WaitGroup
	for n := range sums {
		all.Go(func() { sums[n] = download(address) })
	}
	all.Wait()
	for _, sum := range sums {
		if sum != sums[0] {
			return "", fmt.Errorf("the downloads differ: %v", sums)
		}
	}
	return "8 of " + sums[0], nil
}

// download takes a connection of its own.
func download(address string) string {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
	response, err := client.Get(address)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, response.Body); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%x", sum.Sum(nil))
}
