package org.sunbird.pipelines;

import java.net.InetAddress;
import java.net.InetSocketAddress;
import org.apache.beam.vendor.grpc.v1p60p1.io.grpc.ServerBuilder;
import org.apache.beam.vendor.grpc.v1p60p1.io.grpc.ServerProvider;
import org.apache.beam.vendor.grpc.v1p60p1.io.grpc.netty.NettyServerBuilder;

/** Beam's expansion service, which asks gRPC for a server on a port, gets one that listens on loopback only. */
public final class LoopbackServerProvider extends ServerProvider {

  private static final int BEFORE_ALL_OTHERS = 10;

  @Override
  protected boolean isAvailable() {
    return true;
  }

  @Override
  protected int priority() {
    return BEFORE_ALL_OTHERS;
  }

  @Override
  protected ServerBuilder<?> builderForPort(int port) {
    return NettyServerBuilder.forAddress(new InetSocketAddress(InetAddress.getLoopbackAddress(), port));
  }
}
