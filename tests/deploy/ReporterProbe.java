import java.util.Arrays;
import org.apache.flink.api.common.JobID;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.metrics.Gauge;
import org.apache.flink.runtime.clusterframework.types.ResourceID;
import org.apache.flink.runtime.executiongraph.ExecutionAttemptID;
import org.apache.flink.runtime.metrics.MetricRegistryConfiguration;
import org.apache.flink.runtime.metrics.MetricRegistryImpl;
import org.apache.flink.runtime.metrics.ReporterSetup;
import org.apache.flink.runtime.metrics.groups.JobManagerMetricGroup;
import org.apache.flink.runtime.metrics.groups.TaskManagerMetricGroup;

/** Flink's own metrics and reporter without a cluster, for jobs that have counted what is named. */
public class ReporterProbe {
  public static void main(String[] arguments) throws Exception {
    Configuration configuration = Configuration.fromMap(java.util.Map.of(
        "metrics.reporters", "prometheus",
        "metrics.reporter.prometheus.factory.class", "org.apache.flink.metrics.prometheus.PrometheusReporterFactory",
        "metrics.reporter.prometheus.port", arguments[0]));
    MetricRegistryImpl registry = new MetricRegistryImpl(
        MetricRegistryConfiguration.fromConfiguration(configuration, 10_000_000),
        ReporterSetup.fromConfiguration(configuration, null));
    var taskManager =
        TaskManagerMetricGroup.createTaskManagerMetricGroup(registry, "localhost", ResourceID.generate());
    var jobManager = JobManagerMetricGroup.createJobManagerMetricGroup(registry, "localhost");
    // JOB=name,name…: what its operator counts; *=name,name…: what a JobManager says of every job
    String[] said = {};
    for (String argument : Arrays.copyOfRange(arguments, 1, arguments.length)) {
      String[] parts = argument.split("=");
      if (parts[0].equals("*")) {
        said = parts[1].split(",");
        continue;
      }
      JobID job = new JobID();
      var task = taskManager.addJob(job, parts[0]).addTask(ExecutionAttemptID.randomId(), "A task");
      task.getOrAddOperator("Source: Read from Kafka");
      var operator = task.getOrAddOperator("[2]A step");
      // Beam's own, of every step
      operator.gauge("ref_AppliedPTransform_A-step_5.metric:pardo_execution_time:process_bundle_msecs:v1", (Gauge<Long>) () -> 1L);
      for (String counter : parts[1].split(",")) {
        operator.counter(parts[0] + "_" + counter).inc(7);
      }
      operator.gauge("source_splits_0_backlog_elements", (Gauge<Long>) () -> 5L);
      operator.gauge("source_splits_1_backlog_elements", (Gauge<Long>) () -> -1L);
      for (String name : said) {
        jobManager.addJob(job, parts[0]).gauge(name, (Gauge<Long>) () -> System.currentTimeMillis() / 1000);
      }
    }
    System.out.println("ready");
    Thread.currentThread().join();
  }
}
