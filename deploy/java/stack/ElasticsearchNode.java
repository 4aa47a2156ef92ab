import java.util.List;
import java.util.concurrent.CountDownLatch;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.env.Environment;
import org.elasticsearch.node.Node;
import org.elasticsearch.reindex.ReindexPlugin;
import org.elasticsearch.transport.Netty4Plugin;

/** A node of the local stack, from the jars alone: the distribution's start scripts and modules are not on Maven. */
public final class ElasticsearchNode extends Node {

  private ElasticsearchNode(Settings settings) {
    super(new Environment(settings, null), List.of(Netty4Plugin.class, ReindexPlugin.class), true);
  }

  /** Each argument is one setting, NAME=VALUE. */
  public static void main(String[] arguments) throws Exception {
    Settings.Builder settings = Settings.builder();
    for (String argument : arguments) {
      String[] parts = argument.split("=", 2);
      settings.put(parts[0], parts[1]);
    }
    Node node = new ElasticsearchNode(settings.build());
    CountDownLatch closed = new CountDownLatch(1);
    Runtime.getRuntime()
        .addShutdownHook(
            new Thread(
                () -> {
                  try {
                    node.close();
                  } catch (Exception error) {
                    error.printStackTrace();
                  }
                  closed.countDown();
                }));
    node.start();
    closed.await();
  }
}
