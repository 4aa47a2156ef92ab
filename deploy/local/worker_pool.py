"""Beam's pool of Python workers, on loopback only: `python -m deploy.local.worker_pool PORT`.

Beam's own main program (`apache_beam.runners.worker.worker_pool_main`) does the same but listens on every address.
"""

import logging
import sys

import grpc
from apache_beam.portability.api import beam_fn_api_pb2_grpc
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer
from apache_beam.utils import thread_pool_executor

from deploy.local.processes import LOOPBACK


def main(port: int) -> None:
    """Serve requests for workers until the process is ended; each worker is a process of its own."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    server = grpc.server(
        thread_pool_executor.shared_unbounded_instance(),
        options=[("grpc.http2.max_pings_without_data", 0), ("grpc.http2.max_ping_strikes", 0)],
    )
    if server.add_insecure_port(f"{LOOPBACK}:{port}") != port:
        sys.exit(f"port {port} is taken")
    pool = BeamFnExternalWorkerPoolServicer(use_process=True, state_cache_size=0, data_buffer_time_limit_ms=-1)
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    server.start()
    logging.info("listening at %s:%d", LOOPBACK, port)
    server.wait_for_termination()


if __name__ == "__main__":
    main(int(sys.argv[1]))
