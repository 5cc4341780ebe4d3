// One operation of fabric8's Java client through the given kubeconfig; the last line that it prints is the result.
//   java Client KUBECONFIG OPERATION NAME      NAME is for what it makes; see docs/clients.md

import io.fabric8.kubernetes.api.model.ConfigMap;
import io.fabric8.kubernetes.api.model.ConfigMapBuilder;
import io.fabric8.kubernetes.client.Config;
import io.fabric8.kubernetes.client.KubernetesClient;
import io.fabric8.kubernetes.client.KubernetesClientBuilder;
import io.fabric8.kubernetes.client.LocalPortForward;
import io.fabric8.kubernetes.client.Version;
import io.fabric8.kubernetes.client.Watch;
import io.fabric8.kubernetes.client.Watcher;
import io.fabric8.kubernetes.client.WatcherException;
import io.fabric8.kubernetes.client.dsl.ExecWatch;
import io.fabric8.kubernetes.client.dsl.LogWatch;
import io.fabric8.kubernetes.client.dsl.PodResource;
import io.fabric8.kubernetes.client.dsl.Resource;
import io.fabric8.kubernetes.client.dsl.base.PatchContext;
import io.fabric8.kubernetes.client.dsl.base.PatchType;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.InputStreamReader;
import java.net.SocketTimeoutException;
import java.net.URI;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;

public final class Client {
  private static final String NAMESPACE = "clients";
  private static final String POD = "server";

  private final KubernetesClient api;
  private final String name;

  private Client(KubernetesClient api, String name) {
    this.api = api;
    this.name = name;
  }

  public static void main(String[] words) throws Exception {
    if (words[1].equals("version")) {
      System.out.println(Version.clientVersion());
      return;
    }
    File kubeconfig = new File(words[0]);
    Config config = Config.fromKubeconfig(kubeconfig);
    if (!words[1].equals("plain")) {
      help(config, kubeconfig);
    }
    try (KubernetesClient api = new KubernetesClientBuilder().withConfig(config).build()) {
      System.out.println(new Client(api, words[2]).run(words[1]));
    } catch (Exception error) {
      error.printStackTrace();
      // Threads that are left would keep the program from its end, and its reader from the reason.
      System.exit(1);
    }
    System.exit(0);
  }

  // The client takes an http proxy-url for http servers only, wants a port in it, and does not read a user's tokenFile.
  private static void help(Config config, File kubeconfig) {
    if (config.getHttpProxy() != null) {
      URI proxy = URI.create(config.getHttpProxy());
      String[] login = proxy.getRawUserInfo().split(":", 2);
      config.setHttpsProxy("http://" + proxy.getHost() + ":" + Math.max(proxy.getPort(), 80));
      config.setHttpProxy(null);
      config.setProxyUsername(URLDecoder.decode(login[0], StandardCharsets.UTF_8));
      config.setProxyPassword(login[1]);
    } else {
      Path token = kubeconfig.toPath().resolveSibling("context.token");
      config.setOauthTokenProvider(() -> read(token));
    }
  }

  private static String read(Path file) {
    try {
      return Files.readString(file);
    } catch (java.io.IOException error) {
      throw new java.io.UncheckedIOException(error);
    }
  }

  private String run(String operation) throws Exception {
    return switch (operation) {
      case "plain", "list" -> list();
      case "watch" -> watch();
      case "write" -> write();
      case "logs" -> logs();
      case "exec" -> exec();
      case "copy" -> copy();
      case "forward" -> forward();
      default -> throw new IllegalArgumentException("unknown operation " + operation);
    };
  }

  private Resource<ConfigMap> map(String name) {
    return api.configMaps().inNamespace(NAMESPACE).withName(name);
  }

  private PodResource pod() {
    return api.pods().inNamespace(NAMESPACE).withName(POD);
  }

  private String list() {
    var found = api.configMaps().inNamespace(NAMESPACE).withLabel("for", "list").list();
    return found.getItems().stream().map(item -> item.getMetadata().getName()).collect(Collectors.joining(","));
  }

  // Says when it watches, and ends with the first change after that.
  private String watch() throws Exception {
    String version = map("watched").get().getMetadata().getResourceVersion();
    CompletableFuture<String> changed = new CompletableFuture<>();
    Watcher<ConfigMap> watcher = new Watcher<>() {
      @Override
      public void eventReceived(Action action, ConfigMap map) {
        if (!map.getMetadata().getResourceVersion().equals(version)) {
          changed.complete("changed to " + map.getData().get("value"));
        }
      }

      @Override
      public void onClose(WatcherException error) {
        changed.completeExceptionally(error);
      }
    };
    try (Watch watch = map("watched").watch(watcher)) {
      System.out.println("watching");
      return changed.get();
    }
  }

  private String write() {
    var made = new ConfigMapBuilder().withNewMetadata().withName(name).endMetadata().addToData("value", "1").build();
    var created = api.configMaps().inNamespace(NAMESPACE).resource(made).create();
    var patched = map(name).patch(PatchContext.of(PatchType.JSON_MERGE), "{\"data\":{\"value\":\"2\"}}");
    map(name).delete();
    String end = map(name).get() == null ? "gone" : "still there";
    return "created " + created.getData().get("value") + ", patched " + patched.getData().get("value") + ", " + end;
  }

  // Follows until four lines have come.
  private String logs() throws Exception {
    List<String> seen = new ArrayList<>();
    try (LogWatch log = pod().tailingLines(1).watchLog()) {
      var lines = new BufferedReader(new InputStreamReader(log.getOutput(), StandardCharsets.UTF_8));
      while (seen.size() < 4) {
        seen.add(lines.readLine());
      }
    }
    return String.join(",", seen);
  }

  private String exec() throws Exception {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    try (ExecWatch run = pod().redirectingInput().writingOutput(out).exec("sh", "-c", "read line; echo \"got $line\"; exit 7")) {
      run.getInput().write("hello\n".getBytes(StandardCharsets.UTF_8));
      run.getInput().flush();
      int status = run.exitCode().get(30, TimeUnit.SECONDS);
      return out.toString(StandardCharsets.UTF_8).strip() + ", exit " + status;
    }
  }

  // Brings a file into the Pod and back, and says what came back.
  private String copy() throws Exception {
    String there = "/tmp/" + name;
    Path back = Path.of("/tmp", name + "-back");
    if (!pod().file(there).upload(Path.of("/tmp/file")) || !pod().file(there).copy(back)) {
      throw new IllegalStateException("the file was not copied");
    }
    String sum = sum(Files.readAllBytes(back));
    Files.delete(back);
    try (ExecWatch run = pod().redirectingOutput().exec("rm", there)) {
      run.exitCode().get(30, TimeUnit.SECONDS);
    }
    return sum;
  }

  // Downloads one file eight times at once and says whether all are the same.
  private String forward() throws Exception {
    ExecutorService threads = Executors.newFixedThreadPool(8);
    try (LocalPortForward forward = pod().portForward(8000)) {
      URI file = URI.create("http://127.0.0.1:" + forward.getLocalPort() + "/file");
      List<Future<String>> downloads = new ArrayList<>();
      for (int n = 0; n < 8; n++) {
        downloads.add(threads.submit(() -> persistently(file)));
      }
      List<String> sums = new ArrayList<>();
      for (Future<String> download : downloads) {
        sums.add(download.get(80, TimeUnit.SECONDS));
      }
      if (sums.stream().distinct().count() != 1) {
        throw new IllegalStateException("the downloads differ: " + sums);
      }
      return "8 of " + sums.get(0);
    }
  }

  // On a busy machine now and then nothing comes on a forwarded connection, without a gateway too: then another one is opened.
  private static String persistently(URI file) throws Exception {
    for (int attempt = 1; ; attempt++) {
      try {
        return download(file);
      } catch (SocketTimeoutException error) {
        if (attempt == 5) {
          throw error;
        }
        System.err.println("nothing came within 10 s, attempt " + attempt);
      }
    }
  }

  private static String download(URI file) throws Exception {
    var connection = file.toURL().openConnection();
    connection.setReadTimeout(10_000);
    connection.setRequestProperty("Connection", "close");
    try (var in = connection.getInputStream()) {
      return sum(in.readAllBytes());
    }
  }

  private static String sum(byte[] bytes) throws Exception {
    return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes));
  }
}
