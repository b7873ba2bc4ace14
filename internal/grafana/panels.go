package grafana

// form is how a panel shows its queries.
type form uint8

const (
	lines form = iota
	stacked
	stat // one number
)

// Units of Grafana.
const (
	perSecond = "reqps"
	bytesSize = "bytes"
	byteRate  = "Bps"
	seconds   = "s"
	ratio     = "percentunit"
	number    = "short"
	eventRate = "ops"
)

type row struct {
	title  string
	panels []spec
}

// spec is a panel: what it is called, what it means, how it is shown, and its queries.
type spec struct {
	title, text, unit string
	form              form
	queries           []query
}

// query is a PromQL expression in which selectors are short, and the name of its series.
type query struct{ expr, legend string }

func rows() []row {
	return []row{
		{"Overview", overview()},
		{"Traffic", traffic()},
		{"Latency", latency()},
		{"Errors", failures()},
		{"S3", origin()},
		{"Cache", cache()},
		{"Disk tier", disk()},
		{"Transforms", transforms()},
		{"Credentials and provisioning", credentials()},
		{"Nodes", nodes()},
		{"Process", process()},
	}
}

func overview() []spec {
	return []spec{
		{"Requests", "Requests answered on the public listener, of all aliases.", perSecond, stat, []query{
			{`sum(instance:ixmage_http_requests:rate5m{ALL})`, ""},
		}},
		{"Hit ratio", "Share of the requests that asked the cache and caused no call to S3, of all aliases. Requests that joined a fetch count as hits.", ratio, stat, []query{
			{`sum(instance:ixmage_cache_hits:rate5m{ALL}) / sum(instance:ixmage_cache_requests:rate5m{ALL})`, ""},
		}},
		{"Server errors", "Share of the requests that were answered with a status of 500 or more, of all aliases.", ratio, stat, []query{
			{`sum(instance:ixmage_http_errors:rate5m{ALL}) / sum(instance:ixmage_http_requests:rate5m{ALL})`, ""},
		}},
		{"Time to first byte, p99", "99 of 100 answers began within this time, of all aliases.", seconds, stat, []query{
			{`histogram_quantile(0.99, sum by (le) (instance_cache_le:ixmage_http_time_to_first_byte_seconds:rate5m{ALL}))`, ""},
		}},
		{"In flight", "Requests that are being answered.", number, stat, []query{
			{`sum(ixmage_http_requests_in_flight{ALL})`, ""},
		}},
		{"Aliases", "Aliases in the registry, by state.", number, stat, []query{
			{`sum by (state) (ixmage_aliases{ALL})`, "{{state}}"},
		}},
	}
}

func traffic() []spec {
	return []spec{
		{"Requests by alias", "The 20 aliases with the most requests. _unknown are names that are not in the registry, _other the aliases past --metrics-alias-cap.", perSecond, lines, []query{
			{`topk(20, sum by (alias) (rate(ixmage_http_requests_total{ALIAS}[$__rate_interval])))`, "{{alias}}"},
		}},
		{"Requests by cache result", "What the cache did for the requests that asked it.", perSecond, stacked, []query{
			{`sum by (cache) (rate(ixmage_cache_requests_total{ALIAS}[$__rate_interval]))`, "{{cache}}"},
		}},
		{"Bytes sent by cache result", "Body bytes that clients were sent. none are answers that were given before the cache was asked.", byteRate, stacked, []query{
			{`sum by (cache) (rate(ixmage_http_response_bytes_total{ALIAS}[$__rate_interval]))`, "{{cache}}"},
		}},
		{"Hit ratio by requests", "Share of an alias's requests that caused no call to S3. Requests that joined a fetch count as hits.", ratio, lines, []query{
			{`sum by (alias) (rate(ixmage_cache_requests_total{ALIAS,cache=~"hit|collapsed|stale"}[$__rate_interval])) / sum by (alias) (rate(ixmage_cache_requests_total{ALIAS}[$__rate_interval]))`, "{{alias}}"},
		}},
		{"Hit ratio by bytes", "Share of an alias's body bytes that S3 did not have to send. Objects that S3 confirmed with 304 count as hits.", ratio, lines, []query{
			{`sum by (alias) (rate(ixmage_http_response_bytes_total{ALIAS,cache=~"hit|collapsed|stale|revalidated"}[$__rate_interval])) / sum by (alias) (rate(ixmage_http_response_bytes_total{ALIAS,cache!~"none|negative"}[$__rate_interval]))`, "{{alias}}"},
		}},
		{"Requests in flight and connections", "Requests that are being answered, and connections that are open on the public listener.", number, lines, []query{
			{`sum by (instance) (ixmage_http_requests_in_flight{ALL})`, "in flight, {{instance}}"},
			{`sum by (instance) (ixmage_http_connections{ALL})`, "connections, {{instance}}"},
		}},
	}
}

func latency() []spec {
	const first, whole = "ixmage_http_time_to_first_byte_seconds_bucket", "ixmage_http_request_duration_seconds_bucket"
	quantile := func(q, family string) query {
		return query{`histogram_quantile(` + q + `, sum by (cache, le) (rate(` + family + `{ALIAS}[$__rate_interval])))`, "{{cache}}"}
	}
	return []spec{
		{"Time to first byte, median", "Half of the answers began within this time, by cache result.", seconds, lines, []query{quantile("0.5", first)}},
		{"Time to first byte, p95", "95 of 100 answers began within this time, by cache result.", seconds, lines, []query{quantile("0.95", first)}},
		{"Time to first byte, p99", "99 of 100 answers began within this time, by cache result.", seconds, lines, []query{quantile("0.99", first)}},
		{"Whole answer, median", "Half of the answers were complete within this time, by cache result. A slow client makes it long.", seconds, lines, []query{quantile("0.5", whole)}},
		{"Whole answer, p95", "95 of 100 answers were complete within this time, by cache result.", seconds, lines, []query{quantile("0.95", whole)}},
		{"Whole answer, p99", "99 of 100 answers were complete within this time, by cache result.", seconds, lines, []query{quantile("0.99", whole)}},
	}
}

func failures() []spec {
	return []spec{
		{"Errors by status", "Requests that were answered with a status of 400 or more.", perSecond, stacked, []query{
			{`sum by (code) (rate(ixmage_http_requests_total{ALIAS,code=~"4..|5..|other"}[$__rate_interval]))`, "{{code}}"},
		}},
		{"Server errors by alias", "Share of an alias's requests that were answered with a status of 500 or more, over 5 minutes.", ratio, lines, []query{
			{`max by (alias) (instance_alias:ixmage_http_errors:ratio_rate5m{ALIAS})`, "{{alias}}"},
		}},
		{"Client aborts by alias", "Answers that ended early because the client closed the connection. Many at once mean that answers take too long.", perSecond, lines, []query{
			{`sum by (alias) (rate(ixmage_http_client_aborts_total{ALIAS}[$__rate_interval]))`, "{{alias}}"},
		}},
		{"Slow clients cut", "Connections closed because the client read too slowly while others needed what it held.", eventRate, lines, []query{
			{`sum by (reason) (rate(ixmage_http_clients_cut_total{ALL}[$__rate_interval]))`, "{{reason}}"},
		}},
		{"Shed", "Connections and requests that a limit refused or closed.", eventRate, lines, []query{
			{`sum by (reason) (rate(ixmage_http_shed_total{ALL}[$__rate_interval]))`, "{{reason}}"},
		}},
		{"Log lines left out", "Lines that the log does not have: blocked if stderr did not take them, rate if their kind came too often.", eventRate, lines, []query{
			{`sum by (reason) (rate(ixmage_log_lines_dropped_total{ALL}[$__rate_interval]))`, "{{reason}}"},
		}},
	}
}

func origin() []spec {
	quantile := func(q string) query {
		return query{`histogram_quantile(` + q + `, sum by (le) (rate(ixmage_origin_request_duration_seconds_bucket{ALIAS}[$__rate_interval])))`, "p" + q[2:]}
	}
	return []spec{
		{"Calls to S3 by outcome", "Calls to S3, by how they ended. denied includes missing objects if the key may not list the bucket.", perSecond, stacked, []query{
			{`sum by (outcome) (rate(ixmage_origin_requests_total{ALIAS}[$__rate_interval]))`, "{{outcome}}"},
		}},
		{"Duration of calls to S3", "Time of a call to S3, its body included.", seconds, lines, []query{quantile("0.50"), quantile("0.95"), quantile("0.99")}},
		{"Bytes from S3", "Body bytes received from S3.", byteRate, lines, []query{
			{`sum by (alias) (rate(ixmage_origin_bytes_total{ALIAS}[$__rate_interval]))`, "{{alias}}"},
		}},
		{"Calls repeated", "Calls to S3 that were repeated after a failure.", perSecond, lines, []query{
			{`sum by (alias) (rate(ixmage_origin_retries_total{ALIAS}[$__rate_interval]))`, "{{alias}}"},
		}},
		{"Open bodies", "Bodies from S3 that are open. --origin-concurrency limits them.", number, lines, []query{
			{`sum by (instance) (ixmage_origin_open_bodies{ALL})`, "{{instance}}"},
		}},
		{"Circuits", "State of the circuit of each credential: 0 closed, 1 half-open, 2 open (S3 is not asked).", number, lines, []query{
			{`max by (credential) (ixmage_origin_circuit{ALL})`, "{{credential}}"},
		}},
		{"Calls saved", "Calls to S3 that were not needed, by what saved them.", perSecond, stacked, []query{
			{`sum by (by) (rate(ixmage_saved_requests_total{ALIAS}[$__rate_interval]))`, "{{by}}"},
		}},
		{"Bytes saved", "Body bytes that S3 did not have to send, by what saved them.", byteRate, stacked, []query{
			{`sum by (by) (rate(ixmage_saved_bytes_total{ALIAS}[$__rate_interval]))`, "{{by}}"},
		}},
	}
}

func cache() []spec {
	return []spec{
		{"Bytes held", "Bytes that each tier holds, and the most that it may hold. missing are remembered 404 answers.", bytesSize, lines, []query{
			{`sum by (tier) (ixmage_cache_bytes{ALL})`, "{{tier}}"},
			{`sum by (tier) (ixmage_cache_capacity_bytes{ALL})`, "{{tier}}, capacity"},
		}},
		{"Entries", "Entries that each tier holds.", number, lines, []query{
			{`sum by (tier) (ixmage_cache_entries{ALL})`, "{{tier}}"},
		}},
		{"Evictions", "Entries that left a tier, by reason.", eventRate, stacked, []query{
			{`sum by (tier, reason) (rate(ixmage_cache_evictions_total{ALL}[$__rate_interval]))`, "{{tier}}, {{reason}}"},
		}},
		{"Evictions that an alias caused", "Entries of other aliases that left memory because this alias needed room (role pushed).", eventRate, lines, []query{
			{`topk(20, sum by (alias) (rate(ixmage_cache_alias_evictions_total{ALIAS,role="pushed"}[$__rate_interval])))`, "{{alias}}"},
		}},
		{"Evictions that an alias suffered", "Entries of this alias that left memory because another one needed room (role lost). An alias with many needs cache_min.", eventRate, lines, []query{
			{`topk(20, sum by (alias) (rate(ixmage_cache_alias_evictions_total{ALIAS,role="lost"}[$__rate_interval])))`, "{{alias}}"},
		}},
		{"Not stored", "Objects that a tier did not store because its entries are requested more often.", eventRate, lines, []query{
			{`sum by (tier) (rate(ixmage_cache_rejected_total{ALL}[$__rate_interval]))`, "{{tier}}"},
		}},
		{"Memory of the cache", "Bytes that cannot be freed (fetches under way, pictures that slow clients read), and bytes of all pages of the memory tier.", bytesSize, lines, []query{
			{`sum by (instance) (ixmage_cache_pinned_bytes{ALL})`, "pinned, {{instance}}"},
			{`sum by (instance) (ixmage_cache_resident_bytes{ALL})`, "resident, {{instance}}"},
		}},
	}
}

func disk() []spec {
	return []spec{
		{"Disk available", "1 if the disk tier can be used; without --cache-disk there is no value.", number, lines, []query{
			{`min by (instance) (ixmage_cache_disk_available{ALL})`, "{{instance}}"},
		}},
		{"Hits and promotions", "Hits whose bytes came from disk, and objects copied from disk to memory.", eventRate, lines, []query{
			{`sum(rate(ixmage_cache_disk_hits_total{ALL}[$__rate_interval]))`, "hits"},
			{`sum(rate(ixmage_cache_promotions_total{ALL}[$__rate_interval]))`, "promotions"},
		}},
		{"Objects written", "Objects that were to be written to disk, by result.", eventRate, lines, []query{
			{`sum by (result) (rate(ixmage_cache_disk_writes_total{ALL}[$__rate_interval]))`, "{{result}}"},
		}},
		{"Bytes written", "Body bytes written to disk.", byteRate, lines, []query{
			{`sum by (instance) (rate(ixmage_cache_disk_written_bytes_total{ALL}[$__rate_interval]))`, "{{instance}}"},
		}},
		{"Disk errors", "Operations on files of the disk tier that failed.", eventRate, lines, []query{
			{`sum by (operation) (rate(ixmage_cache_disk_errors_total{ALL}[$__rate_interval]))`, "{{operation}}"},
		}},
	}
}

// transforms are of servers with --transform-worker; of others only the first panel has values.
func transforms() []spec {
	const queued, decode, encode = "ixmage_transform_queue_seconds_bucket", "ixmage_transform_decode_seconds_bucket", "ixmage_transform_encode_seconds_bucket"
	quantile := func(q, family string) string {
		return `histogram_quantile(` + q + `, sum by (le) (rate(` + family + `{ALL}[$__rate_interval])))`
	}
	return []spec{
		{"Transforms available", "1 if transforms are on. not_configured means that there is no --transform-worker.", number, lines, []query{
			{`min by (instance) (ixmage_transform_available{ALL})`, "{{instance}}"},
			{`max by (reason) (ixmage_transform_off{ALL})`, "off: {{reason}}"},
		}},
		{"Transformations by outcome", "Transformations that were not in the cache, by how they ended.", perSecond, stacked, []query{
			{`sum by (outcome) (rate(ixmage_transform_jobs_total{ALIAS}[$__rate_interval]))`, "{{outcome}}"},
		}},
		{"Worker time by alias", "Workers that each alias keeps busy. One worker has one thread.", number, stacked, []query{
			{`topk(20, sum by (alias) (rate(ixmage_transform_worker_seconds_total{ALIAS}[$__rate_interval])))`, "{{alias}}"},
		}},
		{"Workers and queue", "Workers that are busy and idle, and jobs that wait for one.", number, lines, []query{
			{`sum by (state) (ixmage_transform_workers{ALL})`, "{{state}}"},
			{`sum(ixmage_transform_queue_length{ALL})`, "jobs that wait"},
		}},
		{"Time of a transformation, p95", "95 of 100 jobs waited, were decoded and were encoded within these times.", seconds, lines, []query{
			{quantile("0.95", queued), "wait"}, {quantile("0.95", decode), "decode"}, {quantile("0.95", encode), "encode"},
		}},
		{"Time to encode by format, p95", "95 of 100 results were encoded within this time.", seconds, lines, []query{
			{`histogram_quantile(0.95, sum by (format, le) (rate(` + encode + `{ALL}[$__rate_interval])))`, "{{format}}"},
		}},
		{"Workers started and ended", "Workers that were started, and those that ended, by reason. deadline, crash, answer and internal are because of a picture.", eventRate, lines, []query{
			{`sum(rate(ixmage_transform_worker_starts_total{ALL}[$__rate_interval]))`, "started"},
			{`sum(rate(ixmage_transform_worker_start_failures_total{ALL}[$__rate_interval]))`, "not started"},
			{`sum by (reason) (rate(ixmage_transform_worker_kills_total{ALL}[$__rate_interval]))`, "ended: {{reason}}"},
		}},
		{"Bytes saved by transforms", "By how much results were smaller than their sources, once for each job.", byteRate, lines, []query{
			{`sum by (alias) (rate(ixmage_transform_saved_bytes_total{ALIAS}[$__rate_interval]))`, "{{alias}}"},
		}},
		{"Checks of signatures", "Requests that have a signature or need one, by the result of the check.", perSecond, stacked, []query{
			{`sum by (outcome) (rate(ixmage_signature_checks_total{ALIAS}[$__rate_interval]))`, "{{outcome}}"},
		}},
	}
}

func credentials() []spec {
	return []spec{
		{"Canaries", "1 if the last read of the alias's canary succeeded, 0 if not.", number, lines, []query{
			{`min by (alias) (ixmage_canary_success{ALIAS})`, "{{alias}}"},
		}},
		{"Age of key pairs", "Time since the current key pair of a credential was made, and the age at which it is rotated.", seconds, lines, []query{
			{`time() - min by (credential) (ixmage_credential_created_timestamp_seconds{ALL})`, "{{credential}}"},
			{`max by (credential) (ixmage_credential_rotate_every_seconds{ALL}) > 0`, "{{credential}}, rotated at"},
		}},
		{"Sessions", "Sessions of roles, and of the server's own credentials, with living keys.", number, lines, []query{
			{`sum by (instance) (ixmage_sessions{ALL})`, "{{instance}}"},
		}},
		{"Renewals of sessions", "Calls for the keys of sessions, by outcome.", eventRate, stacked, []query{
			{`sum by (outcome) (rate(ixmage_session_renewals_total{ALL}[$__rate_interval]))`, "{{outcome}}"},
		}},
		{"Next end of a session", "Time until the first session ends; a renewal begins at half of its life, if the alias is requested.", seconds, lines, []query{
			{`min by (instance) (ixmage_session_next_expiry_seconds{ALL})`, "{{instance}}"},
		}},
		{"Scope of credentials", "Credentials by the result of their last checks.", number, stacked, []query{
			{`count by (scope) (ixmage_credential_scope{ALL} == 1)`, "{{scope}}"},
		}},
		{"Operations ended", "Operations on IAM that ended in the last hour, by kind and outcome.", number, lines, []query{
			{`sum by (kind, outcome) (increase(ixmage_provision_operations_total{ALL}[1h]))`, "{{kind}}, {{outcome}}"},
		}},
		{"Operations running", "Operations on IAM that run now.", number, lines, []query{
			{`sum(ixmage_provision_operations_running{ALL})`, "running"},
		}},
		{"Oldest running operation", "Time since the oldest running operation began; without one there is no value.", seconds, lines, []query{
			{`time() - min(ixmage_provision_oldest_operation_timestamp_seconds{ALL})`, "age"},
		}},
		{"Steps of operations, p95", "95 of 100 steps since the start of the server took no longer, waits included.", seconds, lines, []query{
			{`histogram_quantile(0.95, sum by (step, le) (ixmage_provision_step_duration_seconds_bucket{ALL}))`, "{{step}}"},
		}},
		{"Propagation of keys", "Time from the creation of a key to its first success, since the start of the server.", seconds, lines, []query{
			{`histogram_quantile(0.5, sum by (le) (ixmage_provision_propagation_seconds_bucket{ALL}))`, "p50"},
			{`histogram_quantile(0.95, sum by (le) (ixmage_provision_propagation_seconds_bucket{ALL}))`, "p95"},
		}},
		{"Orphans", "Users, keys and policies in IAM that match no credential; before the first search there is no value.", number, lines, []query{
			{`sum by (instance) (ixmage_provision_orphans{ALL})`, "{{instance}}"},
		}},
		{"Previous keys used", "Calls to S3 repeated with the previous key because the current one was refused.", eventRate, lines, []query{
			{`sum by (credential) (rate(ixmage_rotation_fallback_total{ALL}[$__rate_interval]))`, "{{credential}}"},
		}},
	}
}

// nodes are of servers with --store; of others there are no values.
func nodes() []spec {
	return []spec{
		{"Nodes by state", "Nodes that share a registry: live ones, and ones that the database has not heard of for 15 seconds.", number, stacked, []query{
			{`max by (state) (ixmage_nodes{ALL})`, "{{state}}"},
		}},
		{"Revision of the registry", "The revision that each node has applied. The lines are one if all nodes follow.", number, lines, []query{
			{`max by (instance) (ixmage_registry_revision{ALL})`, "{{instance}}"},
		}},
		{"Lag", "Changes of the registry that a node knows of and has not applied.", number, lines, []query{
			{`max by (instance) (ixmage_registry_lag{ALL})`, "{{instance}}"},
		}},
		{"Stale registries", "Time for which a node has not been able to follow the registry; 0 while it does.", seconds, lines, []query{
			{`max by (instance) (ixmage_registry_stale_seconds{ALL})`, "{{instance}}"},
		}},
		{"Leases", "What each node does alone.", number, stacked, []query{
			{`sum by (name, instance) (ixmage_lease_held{ALL})`, "{{name}}, {{instance}}"},
		}},
		{"Clocks", "How far the clock of each node is from that of the database.", seconds, lines, []query{
			{`max by (instance) (abs(ixmage_node_clock_offset_seconds{ALL}))`, "{{instance}}"},
		}},
	}
}

func process() []spec {
	return []spec{
		{"Versions", "Servers by version.", number, lines, []query{
			{`count by (version, goversion) (ixmage_build_info{ALL})`, "{{version}}, {{goversion}}"},
		}},
		{"Processor", "Processors that the process uses.", number, lines, []query{
			{`sum by (instance) (rate(process_cpu_seconds_total{ALL}[$__rate_interval]))`, "{{instance}}"},
		}},
		{"Memory", "Resident memory of the process, and Go's heap in use.", bytesSize, lines, []query{
			{`sum by (instance) (process_resident_memory_bytes{ALL})`, "resident, {{instance}}"},
			{`sum by (instance) (go_memstats_heap_inuse_bytes{ALL})`, "heap, {{instance}}"},
		}},
		{"Goroutines", "Goroutines of the process.", number, lines, []query{
			{`sum by (instance) (go_goroutines{ALL})`, "{{instance}}"},
		}},
		{"File descriptors", "Open descriptors, and their limit.", number, lines, []query{
			{`sum by (instance) (process_open_fds{ALL})`, "open, {{instance}}"},
			{`min by (instance) (process_max_fds{ALL})`, "limit, {{instance}}"},
		}},
		{"Uptime", "Time since the process started.", seconds, lines, []query{
			{`time() - max by (instance) (process_start_time_seconds{ALL})`, "{{instance}}"},
		}},
	}
}
