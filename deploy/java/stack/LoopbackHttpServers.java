import com.sun.net.httpserver.HttpServer;
import com.sun.net.httpserver.HttpsServer;
import com.sun.net.httpserver.spi.HttpServerProvider;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import sun.net.httpserver.DefaultHttpServerProvider;

/**
 * Lets the JDK's HTTP servers listen on the loopback address only, whatever they are asked for: Flink's Prometheus
 * reporter can not be told an address. Named by -Dcom.sun.net.httpserver.HttpServerProvider.
 */
public final class LoopbackHttpServers extends HttpServerProvider {
  private final HttpServerProvider servers = new DefaultHttpServerProvider();

  @Override
  public HttpServer createHttpServer(InetSocketAddress address, int backlog) throws IOException {
    return servers.createHttpServer(loopback(address), backlog);
  }

  @Override
  public HttpsServer createHttpsServer(InetSocketAddress address, int backlog) throws IOException {
    return servers.createHttpsServer(loopback(address), backlog);
  }

  private static InetSocketAddress loopback(InetSocketAddress address) throws IOException {
    return new InetSocketAddress(InetAddress.getByName("127.0.0.1"), address.getPort());
  }
}
