package status

import (
	"runtime"
	"strconv"
	"strings"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"kdht/appliance/health"
)

// collector turns a report into metrics, one report per scrape.
type collector struct{ report func() Report }

// registry returns the registry with everything that the process measures.
func registry(report func() Report) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collector{report},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return r
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("kdht_"+name, help, labels, nil)
}

// The metrics of the node. README.md names them for users.
var (
	buildInfo    = desc("build_info", "Version of the program; always 1.", "version", "goversion")
	ready        = desc("ready", "Whether the DHT answers and is answered.")
	healthState  = desc("health_state", "How the node is: 1 for the state that it is in, 0 for the others.", "state")
	healthCheck  = desc("health_check", "How each part of the node's health is: 1 for the state that it is in, 0 for the others.", "check", "state")
	taskRunning  = desc("task_running", "Whether a task of the process runs.", "task")
	taskRestarts = desc("task_restarts_total", "Restarts of a task after failures.", "task")

	contacts = desc("table_contacts", "Contacts in the routing table.", "family", "state")
	buckets  = desc("table_buckets", "Buckets of the routing table that have contacts.", "family")
	idSecure = desc("node_id_secure", "Whether the node ID follows BEP 42.", "family")
	rtt      = desc("rtt_seconds", "Smoothed round-trip time of the node's queries.", "family")
	netSize  = desc("network_nodes_estimate", "Estimated number of nodes in the network; 0 if unknown.", "family")
	lookups  = desc("lookups", "Lookups under way.")
	inFlight = desc("queries_in_flight", "The node's queries that wait for an answer.")

	recursions  = desc("recursions", "Lookups under way for clients that have no DHT logic.")
	cachedItems = desc("recursion_cached_items", "Fetched items that are kept.")
	cachedBytes = desc("recursion_cached_bytes", "What the fetched items take.")

	recursionTime = desc("recursion_duration_seconds", "How long lookups for clients took that were answered.")
	recursionHops = desc("recursion_hops_total", "The same by the referrals followed; the last stands for as many or more.", "hops")

	kernelActive    = desc("kernel_active", "Whether the kernel half is attached somewhere.")
	kernelPinned    = desc("kernel_pinned", "Whether the kernel half outlives the process.")
	kernelEndpoints = desc("kernel_endpoints", "Addresses and ports for which the kernel half answers.")
	kernelPaths     = desc("kernel_recursion_paths", "On how many paths at a time recursions go on that begin at an interface, where the kernel half is attached to it.", "interface")
	kernelNIC       = desc("kernel_interface_info", "Mode in which the kernel half is attached to an interface; always 1.", "interface", "driver", "mode", "wanted")
	kernelHot       = desc("kernel_hot_keys", "Keys that the kernel half answers for itself, because they are asked for often.")
	kernelHotUsed   = desc("kernel_hot_entries", "Entries of the hot map in use, by the size of the value.", "size")
	kernelHotRoom   = desc("kernel_hot_room", "Entries that the hot map has.", "size")
	kernelHeld      = desc("kernel_held_keys", "Keys held here that the kernel half knows, or that are missing there; while any are, every get and get_peers goes up.", "state")
	kernelRoom      = desc("kernel_held_room", "Keys that the kernel half can know.")
	kernelOverflows = desc("kernel_held_overflows_total", "How often keys held here began to be missing in the kernel half.")
	kernelDatagrams = desc("kernel_datagrams_total", "Datagrams that left the kernel half, by reason, since its maps were made.", "reason", "method")
	kernelTaken     = desc("kernel_recursions_total", "Recursions that the kernel half has begun and user space has taken over: with the last reply, or because it was late.", "with")
	kernelHops      = desc("kernel_recursion_hops_total", "The same by the number of nodes that the kernel half has asked.", "hops")
	kernelEvents    = desc("kernel_events_total", "What the kernel half did beside, since its maps were made.", "event")

	storeItems      = desc("store_items", "Items (BEP 44) in the store.")
	storeOwnItems   = desc("store_own_items", "Items that the node republishes.")
	storeInfohashes = desc("store_infohashes", "Infohashes with announced peers.")
	storePeers      = desc("store_peers", "Announced peers.")
	storeSources    = desc("store_sources", "Source addresses that are charged for something.")
	storeBytes      = desc("store_bytes", "Cost of all items and peers.")
	storeMaxBytes   = desc("store_max_bytes", "Bound of store_bytes.")
	storeFile       = desc("store_file_bytes", "Size of the database file.")
	storeWrites     = desc("store_writes_total", "Operations committed.")
	storeCommits    = desc("store_commits_total", "Transactions committed.")
	storeCommitTime = desc("store_commit_seconds_total", "Time spent in commits.")
	storeExpired    = desc("store_expired_total", "Items and peers that expired.")
	storeSetAside   = desc("store_set_aside", "Whether an unusable database file was set aside.")
	storeFailing    = desc("store_failing", "Whether nothing can be stored at the moment.")

	storeOldest = desc("store_oldest_item_age_seconds", "Time since the last put of the item that was not put again for longest; 0 without items.")

	hostMemory      = desc("host_memory_bytes", "Memory that the kernel manages.")
	hostAvailable   = desc("host_memory_available_bytes", "What programs could still have of it.")
	hostDisk        = desc("host_disk_bytes", "Size of the file system that has the state.")
	hostDiskFree    = desc("host_disk_free_bytes", "What is free of it.")
	hostTemperature = desc("host_temperature_celsius", "Temperatures that the machine measures.", "sensor")

	logLines     = desc("log_lines_total", "Lines of the log, those that are not written for their level among them if the journal keeps them.", "level")
	logForgotten = desc("log_lines_forgotten_total", "Lines of the log that the journal keeps no more.")

	updateTrial   = desc("update_trial", "Whether what runs is on trial: it was not committed yet.")
	tailnetUp     = desc("tailnet_connected", "Whether the box is connected to its tailnet; missing while the admin plane is off.")
	tailnetExpiry = desc("tailnet_key_expiry_timestamp_seconds", "When somebody must log in to the tailnet again, in Unix time; missing: never.")

	nodeEvents = desc("events_total", "Other events in user space.", "group", "event")
)

// groups are the router's counters that are metrics of their own; all others are events.
var groups = map[string]*prometheus.Desc{
	"query received": desc("queries_received_total", "Queries that reached user space.", "method"),
	"query answered": desc("queries_answered_total", "Queries answered by user space.", "method"),
	"query sent":     desc("queries_sent_total", "The node's own queries.", "method"),
	"error sent":     desc("errors_sent_total", "KRPC errors sent, by code.", "code"),
	"drop":           desc("dropped_total", "Datagrams that user space dropped, by reason.", "reason"),
}

// Describe implements prometheus.Collector. It describes nothing, which makes the collector an unchecked one: which
// events there are is the router's affair.
func (collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	r := c.report()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	gauge(buildInfo, 1, r.Version, runtime.Version())
	gauge(ready, truth(r.Ready))
	for _, s := range health.States {
		gauge(healthState, truth(s == r.Health.State), string(s))
		for _, c := range r.Health.Checks {
			gauge(healthCheck, truth(s == c.State), snake(c.Name), string(s))
		}
	}
	for _, t := range r.Tasks {
		gauge(taskRunning, truth(t.Running), snake(t.Name))
		counter(taskRestarts, float64(t.Restarts), snake(t.Name))
	}
	for _, f := range r.Families {
		family := snake(f.Family)
		var sum Level
		for _, l := range f.Levels {
			sum.Good += l.Good
			sum.Questionable += l.Questionable
			sum.Bad += l.Bad
			sum.Replacement += l.Replacement
		}
		gauge(contacts, float64(sum.Good), family, "good")
		gauge(contacts, float64(sum.Questionable), family, "questionable")
		gauge(contacts, float64(sum.Bad), family, "bad")
		gauge(contacts, float64(sum.Replacement), family, "replacement")
		gauge(buckets, float64(f.UsedBuckets()), family)
		gauge(idSecure, truth(f.Secure), family)
		gauge(rtt, f.RTT, family)
		gauge(netSize, f.NetworkSize, family)
	}
	gauge(lookups, float64(r.Lookups))
	gauge(inFlight, float64(r.InFlight))
	gauge(recursions, float64(r.Recursion.UnderWay))
	gauge(cachedItems, float64(r.Recursion.Cached))
	gauge(cachedBytes, float64(r.Recursion.CacheBytes))
	if len(r.Recursion.Times) > 0 {
		within, all := make(map[float64]uint64), uint64(0)
		for _, b := range r.Recursion.Times {
			if all += b.Count; b.Within > 0 {
				within[b.Within] = all
			}
		}
		ch <- prometheus.MustNewConstHistogram(recursionTime, all, r.Recursion.TimeSum, within)
	}
	for hops, n := range r.Recursion.Hops {
		counter(recursionHops, float64(n), strconv.Itoa(hops))
	}
	for _, n := range r.Node {
		if d := groups[n.Group]; d != nil {
			counter(d, float64(n.Value), snake(n.Name))
		} else {
			counter(nodeEvents, float64(n.Value), snake(n.Group), snake(n.Name))
		}
	}
	gauge(kernelActive, truth(r.XDP.Active))
	gauge(kernelPinned, truth(r.XDP.Pinned))
	gauge(kernelEndpoints, float64(len(r.XDP.Endpoints)))
	for _, n := range r.XDP.NICs {
		if n.Wanted != "none" {
			gauge(kernelNIC, 1, n.Name, n.Driver, n.Mode, n.Wanted)
		}
		if n.Paths > 0 && r.XDP.Recursion != nil {
			gauge(kernelPaths, float64(n.Paths), n.Name)
		}
	}
	gauge(kernelHot, float64(r.XDP.Hot.Keys))
	gauge(kernelHotUsed, float64(r.XDP.Hot.Small), "small")
	gauge(kernelHotUsed, float64(r.XDP.Hot.Large), "large")
	gauge(kernelHotRoom, float64(r.XDP.Hot.SmallRoom), "small")
	gauge(kernelHotRoom, float64(r.XDP.Hot.LargeRoom), "large")
	gauge(kernelHeld, float64(r.XDP.Held.Known), "known")
	gauge(kernelHeld, float64(r.XDP.Held.Missing), "missing")
	gauge(kernelRoom, float64(r.XDP.Held.Room))
	counter(kernelOverflows, float64(r.XDP.Held.Overflows))
	if k := r.XDP.Recursion; k != nil {
		counter(kernelTaken, float64(k.Replied), "reply")
		counter(kernelTaken, float64(k.Late), "nothing")
		for hops, n := range k.Hops {
			counter(kernelHops, float64(n), strconv.Itoa(hops))
		}
	}
	for _, k := range r.XDP.Counters {
		counter(kernelDatagrams, float64(k.Packets), k.Reason, k.Query)
	}
	for _, e := range r.XDP.Events {
		counter(kernelEvents, float64(e.Count), e.Event)
	}
	s := r.Store
	gauge(storeItems, float64(s.Items))
	gauge(storeOwnItems, float64(s.OwnItems))
	gauge(storeInfohashes, float64(s.Infohashes))
	gauge(storePeers, float64(s.Peers))
	gauge(storeSources, float64(s.Sources))
	gauge(storeBytes, float64(s.Bytes))
	gauge(storeMaxBytes, float64(s.MaxBytes))
	gauge(storeFile, float64(s.FileBytes))
	counter(storeWrites, float64(s.Writes))
	counter(storeCommits, float64(s.Commits))
	counter(storeCommitTime, s.CommitTime)
	counter(storeExpired, float64(s.Expired))
	gauge(storeSetAside, truth(s.SetAside != ""))
	gauge(storeFailing, truth(s.Failure != ""))
	gauge(storeOldest, s.OldestItem)
	host(r.Host, gauge)
	for _, l := range []struct {
		level string
		lines uint64
	}{{"debug", r.Log.Debug}, {"info", r.Log.Info}, {"warn", r.Log.Warn}, {"error", r.Log.Error}} {
		counter(logLines, float64(l.lines), l.level)
	}
	counter(logForgotten, float64(r.Log.Forgotten))
	if r.Update != nil {
		gauge(updateTrial, truth(r.Update.Trial))
	}
	if t := r.Tailnet; t != nil {
		gauge(tailnetUp, truth(t.State == "connected"))
		if t.Expiry != nil {
			gauge(tailnetExpiry, float64(t.Expiry.Unix()))
		}
	}
}

// host is the machine, as far as it is known.
func host(h Host, gauge func(*prometheus.Desc, float64, ...string)) {
	if h.Memory > 0 {
		gauge(hostMemory, float64(h.Memory))
		gauge(hostAvailable, float64(h.MemoryAvailable))
	}
	if h.Disk.Size > 0 {
		gauge(hostDisk, float64(h.Disk.Size))
		gauge(hostDiskFree, float64(h.Disk.Free))
	}
	seen := make(map[string]bool)
	for _, t := range h.Temperatures {
		if name := snake(t.Name); !seen[name] { // two of one name would be no metric
			seen[name] = true
			gauge(hostTemperature, t.Celsius, name)
		}
	}
}

// snake is what people read as the value of a label, as Prometheus' users write it: "ID changed" is id_changed.
func snake(s string) string {
	words := strings.FieldsFunc(strings.ToLower(s), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	return strings.Join(words, "_")
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
