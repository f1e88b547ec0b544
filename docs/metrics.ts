/** The page of the metrics, from the table that a scrape is made of. */
import { METRICS } from '../src/http/metrics.ts';
import { BOUNDS_US } from '../src/stats/histogram.ts';

const HEAD = `This page lists what pglynx tells over HTTP: metrics for Prometheus, its state, and the tables of the admin database.

# Metrics

This page is generated from \`src/http\` by \`npm run docs\`. With \`enable_prometheus_exporter = true\` pglynx listens on
\`host\`:\`prometheus_exporter_port\` (9930), as PgCat does. There is neither a login nor TLS: whoever can connect can read. A reload turns
it on and off and changes the port.

| Path | What it answers |
| --- | --- |
| \`/metrics\` | The metrics below, in Prometheus's text format. |
| \`/livez\` | 200 as long as the process runs. |
| \`/readyz\` | 200 when clients should be sent here, else 503; JSON with the \`reasons\`. |
| \`/api\` | JSON: the paths of the tables. |
| \`/api/NAME\` | JSON: the rows of \`SHOW NAME\`, see [ADMIN.md](ADMIN.md), as objects. Numbers are numbers. |

What is secret in SHOW CONFIG is masked here too. Only GET and HEAD are served. The metrics and
tables of all who ask are made one after another, in a fifth of the time at most, so that nobody's statements wait long for them.

## Readiness

\`/readyz\` is 503 while pglynx drains, and while all servers of any shard of any pool are banned or cannot be reached. A server cannot be
reached when pglynx has no connection to it and could not open one. So that this ends when the server is back, though no client asks for
it, each request to \`/readyz\` has such servers tried again, at most once a second.

In Kubernetes \`/livez\` is for the liveness probe and \`/readyz\` for the readiness probe. One user whose password no server takes is
enough for 503: \`reasons\` names it. Pools made for \`[pools."*"]\` and \`users."*"\` do not count.

## Names

- \`pgcat_*\` have PgCat's names, labels and units, so that its dashboards and alerts go on. \`database\` is the name on the server, \`pool\` what
  clients connect to, \`index\` the position in the shard's list of servers. Unlike PgCat's, counters only grow, users of one server are told
  apart, the \`servers_*\` are there also without a connection, and \`xact_time\` and \`error_count\` are counted. Averages are those of SHOW STATS, over
  15 seconds; PgCat's \`avg_wait_time\` is per second, pglynx's per transaction.
- \`pglynx_*\` are pglynx's own, in seconds and bytes. \`database\` is what clients connect to.

Counters hold for the life of the process: a reload that gives a pool new settings, or takes it out, takes nothing from them. Beyond 1,000
servers of a database and user what nobody adds to any more is added up under \`others\`.

Histograms have buckets up to ${bounds()} seconds. A quantile is one line of PromQL:

\`\`\`
histogram_quantile(0.99, sum by (le, database) (rate(pglynx_query_duration_seconds_bucket[5m])))
\`\`\`

[\`deploy/grafana/pglynx.json\`](../deploy/grafana/pglynx.json) is a dashboard of them.

## All metrics
`;

/** The page. */
export function metricsPage(): string {
  const rows = METRICS.map(({ name, type, help, labels }) => {
    const names = labels.map(label => `\`${label}\``).join(', ');
    return `| \`${name}\` | ${type} | ${names} | ${help} |`;
  });
  return `${[HEAD, '| Name | Type | Labels | What it says |', '| --- | --- | --- | --- |', ...rows].join('\n')}\n`;
}

function bounds(): string {
  return Array.from(BOUNDS_US, bound_us => bound_us / 1_000_000).join(', ');
}
