import java.nio.file.Path;
import java.util.concurrent.CountDownLatch;
import org.neo4j.configuration.GraphDatabaseSettings;
import org.neo4j.configuration.connectors.BoltConnector;
import org.neo4j.configuration.connectors.HttpConnector;
import org.neo4j.configuration.connectors.HttpsConnector;
import org.neo4j.configuration.helpers.SocketAddress;
import org.neo4j.harness.Neo4j;
import org.neo4j.harness.Neo4jBuilders;
import org.neo4j.io.ByteUnit;

/** A graph of the local stack that speaks Bolt on the loopback address; what it holds is gone when it ends. */
public final class Neo4jServer {

  private static final String LOOPBACK = "127.0.0.1";

  /** The arguments: the port, and the directory for its files. */
  public static void main(String[] arguments) throws Exception {
    SocketAddress address = new SocketAddress(LOOPBACK, Integer.parseInt(arguments[0]));
    Neo4j server =
        Neo4jBuilders.newInProcessBuilder(Path.of(arguments[1]))
            .withDisabledServer()
            .withConfig(BoltConnector.enabled, true)
            .withConfig(BoltConnector.listen_address, address)
            .withConfig(BoltConnector.advertised_address, address)
            .withConfig(BoltConnector.encryption_level, BoltConnector.EncryptionLevel.DISABLED)
            .withConfig(HttpConnector.enabled, false)
            .withConfig(HttpsConnector.enabled, false)
            .withConfig(GraphDatabaseSettings.auth_enabled, false)
            .withConfig(GraphDatabaseSettings.pagecache_memory, ByteUnit.mebiBytes(8))
            .build();
    CountDownLatch closed = new CountDownLatch(1);
    Runtime.getRuntime()
        .addShutdownHook(
            new Thread(
                () -> {
                  server.close();
                  closed.countDown();
                }));
    closed.await();
  }
}
