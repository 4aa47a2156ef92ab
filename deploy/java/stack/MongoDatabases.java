import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.backend.h2.H2Backend;
import java.util.concurrent.CountDownLatch;
import org.h2.mvstore.MVStore;

/** A server of MongoDB's wire protocol for the local stack, with its databases in one file. */
public final class MongoDatabases {

  /** How long what is acknowledged may be in memory only. */
  private static final int COMMIT_DELAY_MILLISECONDS = 50;

  /** Arguments: the address and port to listen on, and the file. */
  public static void main(String[] arguments) throws Exception {
    MVStore store = MVStore.open(arguments[2]);
    store.setAutoCommitDelay(COMMIT_DELAY_MILLISECONDS);
    MongoServer server = new MongoServer(new H2Backend(store));
    server.bind(arguments[0], Integer.parseInt(arguments[1]));
    CountDownLatch closed = new CountDownLatch(1);
    Runtime.getRuntime()
        .addShutdownHook(
            new Thread(
                () -> {
                  server.shutdownNow();
                  closed.countDown();
                }));
    closed.await();
  }
}
